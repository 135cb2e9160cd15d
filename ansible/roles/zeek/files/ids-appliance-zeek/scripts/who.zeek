##! Frames in, names of who sent them out: as the appliance names a sender.

@load ./settings

module IdsAppliance;

export {
	## A sender: what the rules count by, and what the log says of it.
	type Who: record {
		name: string;
		h: addr;
		mac: string &default="";
	};

	## Name the sender of a flow; the MAC where the frame's own is a device's.
	global who_is: function(h: addr, e: endpoint): Who;
	## Name an ARP frame's; nobody where it shows no MAC.
	global who_has: function(mac: string, h: addr): Who;
	## An address as it stands before a port.
	global place: function(h: addr, p: port): string;
	## Whether an address is a group's: nothing sent there is an attempt.
	global is_group: function(h: addr, e: endpoint): bool;
	## Whether the gateway itself sent it.
	global is_own: function(h: addr): bool;
}

const groups_4 = 224.0.0.0/3;
const groups_6 = [ff00::]/8;

function who_is(h: addr, e: endpoint): Who
	{
	if ( own_headers
	    && e?$l2_addr
	    && e$l2_addr !in router_macs
	    && e$l2_addr !in own_macs )
		return Who($name=e$l2_addr, $h=h, $mac=e$l2_addr);
	if ( is_v4_addr(h) )
		return Who($name=fmt("%s", h), $h=h);
	return Who($name=fmt("%s", h / 64), $h=h);
	}

function who_has(mac: string, h: addr): Who
	{
	if ( mac == "00:00:00:00:00:00" )
		return Who($name="", $h=h);
	return Who($name=mac, $h=h, $mac=mac);
	}

function place(h: addr, p: port): string
	{
	return is_v4_addr(h) ? fmt("%s:%d", h, port_to_count(p)) : fmt("[%s]:%d", h,
	    port_to_count(p));
	}

function is_group(h: addr, e: endpoint): bool
	{
	if ( is_v4_addr(h) ? h in groups_4 : h in groups_6 )
		return T;
	# A network's own broadcast address is known by the frame alone.
	return own_headers && e?$l2_addr && e$l2_addr[1] in "13579bdf";
	}

function is_own(h: addr): bool
	{
	return h in own_addresses;
	}
