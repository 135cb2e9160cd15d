##! Triggers in, lines of an unbuffered JSON log out: each is written as it happens.

@load ./settings
@load ./clock
@load ./who

module IdsAppliance;

export {
	redef enum Log::ID += { LOG };

	## One line: a trigger, or once a second a sign of life.
	type Line: record {
		ts: time &log &optional;
		## "trigger" or "alive".
		kind: string &log &default="trigger";
		rule: string &log &optional;
		## What the rule counts by.
		key: string &log &optional;
		## Who did it, as far as is known: an address, a MAC.
		orig: addr &log &optional;
		mac: string &log &optional;
		## The victim, where there is one.
		resp: addr &log &optional;
		resp_p: count &log &optional;
		detail: string &log &optional;
		## Whether the rule alone may decide.
		decisive: bool &log &optional;
		## Of a sign of life: packets seen and lost, entries of the tables, rules at rest.
		packets: count &log &optional;
		lost: count &log &optional;
		entries: count &log &optional;
		resting: bool &log &optional;
	};

	## Write a line, at once.
	global put: function(line: Line);
	## Write a trigger, unless one of its rule and key was written within the hold-down; what is
	## `loud` has one of its own.
	global fire: function(line: Line, loud: bool &default=F);
	## Say who did it, as far as is known.
	global blame: function(line: Line, w: Who);
	## A table is full: that is a trigger itself.
	global overflow: function(what: string);
	## Begin a new file after this time; the last one is kept beside it.
	const rotate_after = 1hr &redef;
	const log_path = "trigger" &redef;
}

# Two generations, so that nothing is older than twice the hold-down.
global held: table[string, string, bool] of time;
global held_before: table[string, string, bool] of time;
global held_since = double_to_time(0.0);

# Log::set_buf does nothing before the first line (Zeek 8.0: it is the writer's, and none is made
# yet), and the timer would let a trigger wait for up to a second.
function put(line: Line)
	{
	Log::write(LOG, line);
	Log::flush(LOG);
	}

function fire(line: Line, loud: bool)
	{
	if ( now - held_since >= hold_down )
		{
		held_before = held;
		held = table();
		held_since = now;
		}
	local last = double_to_time(0.0);
	if ( [line$rule, line$key, loud] in held )
		last = held[line$rule, line$key, loud];
	else if ( [line$rule, line$key, loud] in held_before )
		last = held_before[line$rule, line$key, loud];
	if ( now - last < hold_down )
		return;
	# Thousands within a hold-down: the window is open already.
	if ( |held| >= max_keys )
		return;
	held[line$rule, line$key, loud] = now;
	line$ts = now;
	put(line);
	}

hook set_back()
	{
	held = table();
	held_before = table();
	held_since = now;
	}

function blame(line: Line, w: Who)
	{
	line$orig = w$h;
	if ( w$mac != "" )
		line$mac = w$mac;
	}

function overflow(what: string)
	{
	fire(Line($rule="overflow", $key=what, $detail=fmt("the table of %s is full",
	    what)));
	}

function keep_one(info: Log::RotationInfo): bool
	{
	return rename(info$fname, fmt("%s.1.log", info$path));
	}

event zeek_init() &priority=5
	{
	Log::create_stream(LOG, [$columns=Line, $path=log_path]);
	Log::remove_default_filter(LOG);
	# With a capture it is the end that counts, and Zeek rotates at its own.
	local every = reading_live_traffic() ? rotate_after : 0secs;
	Log::add_filter(LOG, [$name="json", $path=log_path, $interv=every,
	    $postprocessor=keep_one, $config=table(["use_json"] = "T")]);
	}
