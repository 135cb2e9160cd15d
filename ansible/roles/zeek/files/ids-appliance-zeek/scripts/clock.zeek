##! Packet time in, rule windows out. The clock is set to each instant at which a time-out is due
##! before it is set to the packet's, so that what is due counts in the window in which it was.
##! Zeek's own time never goes back; a clock that was set back is seen by the packets' own times.

@load ./settings

module IdsAppliance;

export {
	## The present, never backwards but for `set_back`.
	global now = double_to_time(0.0);
	## Number of the rule window: floor(packet time / window_length).
	global window_number = 0;
	## A new window has begun: what the rules count begins at zero.
	global rolled: hook();
	## The clock was set back: nothing that was timed means anything now. Who is who stays known.
	global set_back: hook();
	## Let what is due up to an instant happen.
	global due: hook(t: time);
	## Let time pass up to the present packet's; called first by every event.
	global tick: function();
	## Set the clock to an instant.
	global set_clock: function(t: time);
	## How long ago something was, for people.
	global span: function(since: time): string;
}

# Packets of several ports are a little out of order; what is older than this is not.
const out_of_order = 10secs;
# Where Zeek's own time stands until the packets' have caught up with it.
global standing = double_to_time(0.0);

function number_of(t: time): count
	{
	return double_to_count(floor(time_to_double(t) / interval_to_double(
	    window_length)));
	}

function set_clock(t: time)
	{
	if ( t > now )
		now = t;
	if ( number_of(now) != window_number )
		{
		window_number = number_of(now);
		hook rolled();
		}
	}

function turn_back(t: time)
	{
	standing = network_time();
	now = t;
	window_number = number_of(t);
	# What is kept in two generations is rid of both.
	hook rolled();
	hook rolled();
	hook set_back();
	}

function tick()
	{
	local t = get_current_packet_ts();
	if ( t == double_to_time(0.0) && network_time() > standing )
		t = network_time(); # No packet is at hand: time passes all the same.
	if ( t > now )
		{
		hook due(t);
		set_clock(t);
		}
	else if ( t > double_to_time(0.0) && t + out_of_order < now )
		turn_back(t);
	}

function span(since: time): string
	{
	return fmt("%.1f s", interval_to_double(now - since));
	}

global sweep: event();

event sweep()
	{
	tick();
	schedule 250msecs { sweep() };
	}

event zeek_init()
	{
	schedule 250msecs { sweep() };
	}
