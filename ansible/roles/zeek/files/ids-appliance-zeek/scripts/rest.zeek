##! What was lost in, whether the rules that need answers may count out. A limiter that drops takes
##! answers away, and no correction of ratios repairs that: they rest for the window in which it
##! happened and the next.

@load ./clock
@load ./trigger-log

module IdsAppliance;

export {
	## Whether what was not seen may have been there all the same.
	global resting: function(): bool;
	## Packets were lost on the way here.
	global lost_some: function(why: string);
}

global lost_in_window = 0;
global lost_ever = F;

function resting(): bool
	{
	return lost_ever && window_number <= lost_in_window + 1;
	}

function lost_some(why: string)
	{
	lost_ever = T;
	lost_in_window = window_number;
	fire(Line($rule="overflow", $key=why, $detail=fmt(
	    "%s: the rules that count answers rest", why)));
	}

hook set_back()
	{
	lost_in_window = window_number;
	}

# The mirror hands over, once a second, one new flow that is past its limit, under a MAC of its own.
event new_connection(c: connection) &priority=10
	{
	if ( limited_mac == "" || ! c$resp?$l2_addr || c$resp$l2_addr != limited_mac )
		return;
	tick();
	lost_some("mirror");
	}
