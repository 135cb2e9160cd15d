##! ARP and DHCP ACKs in, who has which IPv4 address out. A binding is not handed over to who claims
##! it; only a lease of the gateway's own does that, as anybody else's can be forged.

@load ./arp

module IdsAppliance;

export {
	type Binding: record {
		mac: string;
		## Last seen, and for how long it holds from then.
		seen: time;
		lease: interval &default=1hr;
		## It may never change: from the configuration.
		configured: bool &default=F;
		## It rests on more than replies that nobody asked for.
		firm: bool &default=T;
		## Another had it before, and may have been the owner.
		disputed: bool &default=F;
		## Who else claims it; when its owner was last seen since then.
		rival: string &default="";
		owner_seen: bool &default=F;
		owner_at: time &default=double_to_time(0.0);
		claimed: time &default=double_to_time(0.0);
		accused: bool &default=F;
		## The MAC that claimed it last, and how often that has changed in the present window.
		latest: string;
		window: count &default=0;
		changes: count &default=0;
	};

	global bindings: table[addr] of Binding;
	## Whether a binding holds still.
	global holds: function(b: Binding): bool;
	## Learn one, if there is room.
	global bind: function(h: addr, b: Binding);
	## Count how often an address's MAC has changed.
	global changed_hands: function(h: addr, b: Binding, w: Who, mac: string);
}

function holds(b: Binding): bool
	{
	return b$configured || b$seen + b$lease > now;
	}

function bind(h: addr, b: Binding)
	{
	if ( h !in bindings && |bindings| >= max_bindings )
		{
		overflow("bindings");
		return;
		}
	bindings[h] = b;
	}

# Room again, at most once a window.
hook rolled()
	{
	if ( |bindings| < max_bindings )
		return;
	local gone: vector of addr;
	for ( h, b in bindings )
		if ( ! holds(b) )
			gone += h;
	for ( i, h in gone )
		delete bindings[h];
	}

hook set_back()
	{
	for ( h, b in bindings )
		{
		b$seen = b$claimed = now;
		b$owner_seen = b$accused = F;
		b$window = 0;
		}
	}

event zeek_init()
	{
	for ( h, mac in configured_bindings )
		bindings[h] = Binding($mac=mac, $seen=double_to_time(0.0), $configured=T,
		    $latest=mac);
	Analyzer::register_for_ports(Analyzer::ANALYZER_DHCP, set(67/udp, 68/udp));
	}

event dhcp_message(c: connection, is_orig: bool, msg: DHCP::Msg,
    options: DHCP::Options)
	{
	tick();
	local mac = msg$chaddr;
	local h = msg$yiaddr;
	local server = is_orig ? c$id$orig_h : c$id$resp_h;
	if ( msg$m_type != 5
	    || h == 0.0.0.0
	    || ( h in bindings && bindings[h]$configured ) )
		return;
	if ( h !in bindings || bindings[h]$mac != mac )
		{
		if ( h in bindings && holds(bindings[h]) && ! is_own(server) )
			return;
		bind(h, Binding($mac=mac, $seen=now, $latest=mac));
		}
	if ( h !in bindings )
		return;
	local b = bindings[h];
	b$seen = now;
	b$firm = T;
	if ( options?$lease && options$lease > 0secs )
		b$lease = options$lease;
	}
