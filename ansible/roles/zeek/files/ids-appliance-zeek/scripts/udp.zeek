##! UDP in, attempts out: the first datagram of an exchange is one.

@load ./attempts

module IdsAppliance;

# Who has spoken to a group is answered by strangers (mDNS, SSDP, DHCP): no attempts of theirs.
global to_groups: table[addr, port] of time &create_expire=60secs;

event new_connection(c: connection)
	{
	if ( get_port_transport_proto(c$id$resp_p) != udp )
		return;
	tick();
	if ( is_group(c$id$resp_h, c$resp) )
		{
		if ( |to_groups| < max_keys )
			to_groups[c$id$orig_h, c$id$orig_p] = now;
		}
	else if ( [c$id$resp_h, c$id$resp_p] !in to_groups
	    && ( ! know(c$id) || found$refused ) )
		begin(c, F, F);
	}

event udp_reply(u: connection)
	{
	tick();
	if ( know(u$id) )
		answered(found);
	}
