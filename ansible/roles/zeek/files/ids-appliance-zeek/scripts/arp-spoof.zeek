##! Rule "arp_spoof": a claim against a binding, many replies that nobody asked for, an address
##! whose MAC changes again and again. A changed MAC alone names the newcomer and decides nothing.

@load ./bindings

module IdsAppliance;

## The bound MAC was seen with the address so recently that it has it still.
const alive = 60secs;
const soon = 0.5secs;

global unasked_of: table[string] of count;

hook rolled()
	{
	unasked_of = table();
	}

function spoofed(h: addr, w: Who, decisive: bool, why: string)
	{
	local line = Line($rule="arp_spoof", $key=fmt("%s", h), $resp=h, $detail=why);
	if ( w$name != "" )
		line$mac = w$mac;
	if ( decisive && w$name != "" )
		line$decisive = T;
	fire(line, decisive);
	}

function owner_lives(h: addr, b: Binding, w: Who, unasked: bool)
	{
	b$seen = now;
	b$firm = b$firm || ! unasked;
	if ( b$rival == "" )
		return;
	if ( ! b$owner_seen )
		b$owner_at = now;
	b$owner_seen = T;
	if ( b$accused && now > b$claimed + soon && now < b$claimed + alive )
		{
		b$accused = F;
		spoofed(h, who_has(b$rival, h), T, fmt(
		    "%s is claimed by %s, and belongs to %s, which still uses it", h,
		    b$rival, b$mac));
		}
	}

function contested(h: addr, b: Binding, w: Who, mac: string, unasked: bool)
	{
	local certain = b$firm && ! b$disputed;
	local first = b$rival != mac;
	local mine = w$name == mac || w$name == "";
	local lives = b$rival != "" && b$owner_seen && b$owner_at + alive > now;
	local said = fmt("%s is claimed by %s, and belongs to %s", h, mac, b$mac);
	b$rival = mac;
	b$owner_seen = F;
	b$claimed = now;
	b$accused = F;
	if ( w$name == b$mac )
		spoofed(h, who_has("", h), F, said);
	else if ( b$configured )
		spoofed(h, w, T, said + " by the configuration");
	else if ( ! b$firm )
		{
		if ( first || unasked )
			spoofed(h, who_has("", h), F, said);
		}
	else if ( ! mine && certain )
		spoofed(h, w, T, said + "; the frame came from a third MAC");
	else if ( lives && ! first && unasked && certain )
		spoofed(h, w, T, said + ", which still uses it");
	else if ( first || unasked )
		{
		spoofed(h, w, F, said);
		b$accused = unasked && certain && w$name != "";
		}
	}

hook arp_claims(w: Who, h: addr, mac: string, unasked: bool)
	{
	# A frame that does not show its own MAC is taken for the claimed one's.
	local mine = w$name == mac || w$name == "";
	if ( arp_unsolicited == 0 )
		return;
	if ( is_own(h) && |own_macs| > 0 )
		{
		if ( mac !in own_macs )
			spoofed(h, w, T, fmt("%s is claimed by %s, and is the gateway's own", h,
			    mac));
		return;
		}
	if ( h !in bindings || ! holds(bindings[h]) )
		{
		if ( mine )
			bind(h, Binding($mac=mac, $seen=now, $firm=! unasked, $latest=mac));
		return;
		}
	local b = bindings[h];
	if ( b$mac != mac && ! b$firm && mine && ! unasked )
		{ # It rested on replies that nobody asked for, and gives way.
		spoofed(h, who_has("", h), F, fmt("%s is claimed by %s, and was by %s", h,
		    mac, b$mac));
		b = Binding($mac=mac, $seen=now, $rival=b$mac, $disputed=T, $latest=mac);
		bindings[h] = b;
		}
	else if ( b$mac != mac )
		contested(h, b, w, mac, unasked);
	else if ( mine )
		owner_lives(h, b, w, unasked);
	changed_hands(h, b, w, mac);
	}

hook arp_unasked(w: Who)
	{
	if ( arp_unsolicited == 0
	    || w$name == ""
	    || ( w$name !in unasked_of && |unasked_of| >= max_keys ) )
		return;
	unasked_of[w$name] = w$name in unasked_of ? unasked_of[w$name] + 1 : 1;
	if ( unasked_of[w$name] < arp_unsolicited )
		return;
	local line = Line($rule="arp_spoof", $key=w$name, $mac=w$mac);
	line$detail = fmt("%d ARP replies that nobody asked for", unasked_of[w$name]);
	fire(line);
	}
