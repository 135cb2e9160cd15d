##! ICMP in: unreachable refuses an attempt, echo requests are the cue of a sweep.

@load ./attempts

module IdsAppliance;

export {
	## Somebody asks whether a host is there.
	global echo_seen: hook(w: Who, host: addr);
}

event icmp_echo_request(c: connection, info: icmp_info, id: count, seq: count,
    payload: string)
	{
	tick();
	if ( ! is_own(c$id$orig_h) && ! is_group(c$id$resp_h, c$resp) )
		hook echo_seen(who_is(c$id$orig_h, c$orig), c$id$resp_h);
	}

event icmp_unreachable(c: connection, info: icmp_info, code: count,
    context: icmp_context)
	{
	tick();
	# Nobody but the attempt's own sender is told of it.
	if ( context$bad_hdr_len || context$id$orig_h != c$id$resp_h )
		return;
	if ( know(context$id) )
		refused(found);
	}
