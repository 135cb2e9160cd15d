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

const FIN = 1;
const SYN = 2;
const RST = 4;
const PSH = 8;
const ACK = 16;
const URG = 32;

function reversed(id: conn_id): conn_id
	{
	return conn_id($orig_h=id$resp_h, $orig_p=id$resp_p, $resp_h=id$orig_h,
	    $resp_p=id$orig_p);
	}

event connection_SYN_packet(c: connection, pkt: SYN_packet)
	{
	tick();
	if ( ! pkt$is_orig || "S" !in c$history )
		{ # A SYN-ACK; from the originator where its SYN was forgotten, or never seen.
		if ( ! know(pkt$is_orig ? reversed(c$id) : c$id) )
			return;
		local frame = get_current_packet_header();
		if ( frame?$tcp && frame$tcp$flags & ACK != 0 )
			{
			found$number = frame$tcp$seq;
			answered(found);
			}
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
	local frame = get_current_packet_header();
	if ( ! know(c$id) || ! found$answered || is_own(c$id$orig_h) || ! frame?$tcp )
		return;
	# Whoever forged its address does not know the number.
	if ( frame$tcp$ack == ( found$number + 1 ) % 4294967296 )
		hook handshake_done(c);
	}

event connection_rejected(c: connection)
	{
	tick();
	if ( know(c$id) )
		refused(found);
	}

# A bare flag that belongs to nothing known. Behind the mirror a long connection's FIN looks so, as
# its other packets are not copied.
event new_connection(c: connection)
	{
	if ( get_port_transport_proto(c$id$resp_p) != tcp )
		return;
	local frame = get_current_packet_header();
	if ( ! frame?$tcp || is_group(c$id$resp_h, c$resp) )
		return;
	local flags = frame$tcp$flags;
	if ( flags & ( SYN | RST ) != 0 )
		return;
	if ( flags & ACK != 0 && ( frame$tcp$dl > 0 || flags & ( PSH | URG ) != 0 ) )
		return;
	if ( ! whole && flags & ( FIN | ACK ) == ( FIN | ACK ) )
		return;
	tick();
	begin(c, T, F);
	}

# Whatever but RST answers a bare flag shows a connection that was there before us.
function over(c: connection)
	{
	tick();
	if ( ! know(c$id) )
		return;
	if ( ! found$probe )
		closed(found);
	else if ( "r" in c$history )
		refused(found);
	else
		answered(found);
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

event partial_connection(c: connection)
	{
	tick();
	if ( know(c$id) && found$probe )
		answered(found);
	}
