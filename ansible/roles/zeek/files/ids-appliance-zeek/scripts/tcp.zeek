##! TCP in, attempts and handshakes out.

@load ./attempts

module IdsAppliance;

export {
	## A SYN, also one that was sent again.
	global syn_seen: hook(c: connection);
	## The originator has acknowledged the responder's SYN.
	global handshake_done: hook(c: connection);
	## Whether new flows to there are part of a flood, and count in no other rule.
	global in_flood: function(c: connection): bool;
}

function reversed(id: conn_id): conn_id
	{
	return conn_id($orig_h=id$resp_h, $orig_p=id$resp_p, $resp_h=id$orig_h,
	    $resp_p=id$orig_p);
	}

event connection_SYN_packet(c: connection, pkt: SYN_packet)
	{
	tick();
	if ( ! pkt$is_orig )
		{
		if ( "h" in c$history && know(c$id) )
			answered(found);
		return;
		}
	if ( "S" !in c$history )
		{ # It begins with the answer: the flow was forgotten, or never seen.
		if ( know(reversed(c$id)) )
			answered(found);
		return;
		}
	if ( is_group(c$id$resp_h, c$resp) )
		return;
	if ( ! is_own(c$id$orig_h) )
		hook syn_seen(c);
	if ( know(c$id)
	    && ! found$probe
	    && ! found$refused
	    && ! ( found$answered && c$start_time > found$began ) )
		return;
	begin(c, F, in_flood(c));
	}

event connection_first_ACK(c: connection)
	{
	tick();
	if ( know(c$id) && found$answered && ! is_own(c$id$orig_h) )
		hook handshake_done(c);
	}

event connection_rejected(c: connection)
	{
	tick();
	if ( know(c$id) )
		refused(found);
	}

# A bare flag that belongs to nothing: the flow's history tells, once its first packet is done.
event new_connection(c: connection)
	{
	if ( get_port_transport_proto(c$id$resp_p) != tcp
	    || ! connection_exists(c$id) )
		return;
	if ( /[SsHhDdRr]/ in lookup_connection(c$id)$history
	    || is_group(c$id$resp_h, c$resp) )
		return;
	tick();
	begin(c, T, F);
	}

function over(c: connection)
	{
	tick();
	if ( ! know(c$id) )
		return;
	if ( ! found$probe )
		closed(found);
	else if ( "r" in c$history )
		refused(found);
	}

event connection_finished(c: connection)
	{
	over(c);
	}

event connection_half_finished(c: connection)
	{
	over(c);
	}

event connection_reset(c: connection)
	{
	over(c);
	}

# Anything else that answers a bare flag shows a connection that was there before us.
event partial_connection(c: connection)
	{
	tick();
	if ( know(c$id) && found$probe )
		answered(found);
	}
