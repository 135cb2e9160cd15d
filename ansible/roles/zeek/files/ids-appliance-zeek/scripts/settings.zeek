##! What the rules count against. The values are the appliance's: it renders them into a file of
##! redefs (ids-appliance zeek settings), so that both prescreeners have the same.

module IdsAppliance;

export {
	## The rules count in windows of this length, aligned to packet time.
	const window_length = 5.0secs &redef;
	## An attempt without an answer for so long has failed.
	const no_answer = 1.0secs &redef;
	## One event per rule and key in this time.
	const hold_down = 5.0secs &redef;

	## SYNs to one address and port; 0 switches the rule off, here and below.
	const dos_syns = 500 &redef;
	## Completed handshakes / SYNs below which it fires.
	const dos_handshake_ratio = 0.2 &redef;
	## Distinct ports of one host.
	const scan_ports = 20 &redef;
	## Share of them that must have failed.
	const scan_failed_ratio = 0.8 &redef;
	## Distinct hosts of one source.
	const mirai_hosts = 20 &redef;
	## How many ports count as a small fixed set.
	const mirai_top_ports = 5 &redef;
	## Share of the attempts that must go to those.
	const mirai_top_ports_ratio = 0.9 &redef;
	## Share of the attempts that must have failed or been brief.
	const mirai_failed_or_brief_ratio = 0.8 &redef;
	## A connection closed within this time is brief.
	const brief = 2.0secs &redef;
	## A connection of at most so many packets is brief; needs to see them all, see `whole`.
	const brief_packets = 5 &redef;
	## ICMP echo requests to so many hosts.
	const mirai_echo_hosts = 20 &redef;
	## ARP requests for so many addresses.
	const mirai_arp_targets = 30 &redef;
	## ARP replies that nobody asked for, of one MAC.
	const arp_unsolicited = 10 &redef;
	## Changes of one address's MAC.
	const arp_mac_changes = 3 &redef;
	## Which MAC has which address, for what may never change.
	const configured_bindings: table[addr] of string = {} &redef;

	## Exchanges followed at a time.
	const max_flows = 65536 &redef;
	## Keys of each rule.
	const max_keys = 16384 &redef;
	## Bindings learned.
	const max_bindings = 4096 &redef;

	## MACs that forward for others: what they send is named by its address.
	const router_macs: set[string] = {} &redef;
	## The gateway's own; what it sends never counts.
	const own_macs: set[string] = {} &redef;
	const own_addresses: set[addr] = {} &redef;
	## Whether frames have their own Ethernet header (a capture, a tap) or the mirror's.
	const own_headers = F &redef;
	## Whether every packet is seen: then a connection of few packets is brief as well.
	const whole = F &redef;
	## Destination MAC by which the mirror marks what its limiter would have dropped.
	const limited_mac = "" &redef;
}
