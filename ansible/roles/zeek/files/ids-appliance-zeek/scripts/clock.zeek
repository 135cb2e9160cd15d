##! Packet time in, rule windows out. The clock is set to each instant at which a time-out is due
##! before it is set to the packet's, so that what is due counts in the window in which it was.

@load ./settings

module IdsAppliance;

export {
	## The present, never backwards.
	global now = double_to_time(0.0);
	## Number of the rule window: floor(packet time / window_length).
	global window_number = 0;
	## A new window has begun: what the rules count begins at zero.
	global rolled: hook();
	## Let what is due up to an instant happen.
	global due: hook(t: time);
	## Let time pass up to the present packet's; called first by every event.
	global tick: function();
	## Set the clock to an instant.
	global set_clock: function(t: time);
	## How long ago something was, for people.
	global span: function(since: time): string;
}

function set_clock(t: time)
	{
	if ( t > now )
		now = t;
	local n = double_to_count(floor(time_to_double(now) / interval_to_double(
	    window_length)));
	if ( n != window_number )
		{
		window_number = n;
		hook rolled();
		}
	}

function tick()
	{
	local t = network_time();
	if ( t > now )
		{
		hook due(t);
		set_clock(t);
		}
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
