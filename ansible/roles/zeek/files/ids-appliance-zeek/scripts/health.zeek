##! Once a second a sign of life: who reads the log knows a dead or hung Zeek by its absence. What
##! the capture ring lost rests the rules that count answers.

@load ./attempts
@load ./bindings

module IdsAppliance;

global lost_before = 0;

global sign_of_life: event();

event sign_of_life()
	{
	tick();
	local net = get_net_stats();
	if ( net$pkts_dropped > lost_before )
		lost_some("ring");
	lost_before = net$pkts_dropped;
	put(Line($ts=network_time(), $kind="alive", $packets=net$pkts_recvd,
	    $lost=net$pkts_dropped, $entries=entries() + |bindings|,
	    $resting=resting()));
	schedule 1sec { sign_of_life() };
	}

event zeek_init()
	{
	if ( reading_live_traffic() )
		schedule 1sec { sign_of_life() };
	}
