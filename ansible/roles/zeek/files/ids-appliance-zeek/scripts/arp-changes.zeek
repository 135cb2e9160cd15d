##! Part of rule "arp_spoof": an address whose MAC changes again and again within a window.

@load ./bindings

module IdsAppliance;

function changed_hands(h: addr, b: Binding, w: Who, mac: string)
	{
	if ( b$latest == mac )
		return;
	b$latest = mac;
	if ( b$window != window_number )
		{
		b$window = window_number;
		b$changes = 0;
		}
	++b$changes;
	if ( arp_mac_changes == 0 || b$changes < arp_mac_changes )
		return;
	local line = Line($rule="arp_spoof", $key=fmt("%s", h), $resp=h);
	line$detail = fmt("%s is claimed by %s; it changed hands %d times", h, mac,
	    b$changes);
	if ( b$firm && mac != b$mac && w$name != "" )
		line$mac = w$mac;
	fire(line);
	}
