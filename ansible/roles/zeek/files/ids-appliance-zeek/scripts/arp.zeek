##! ARP in, requests and claims out. Where the frame's MAC is not the claimed one Zeek raises only
##! bad_arp.

@load ./clock
@load ./trigger-log
@load ./who

module IdsAppliance;

export {
	## Somebody asks for an address.
	global arp_asked: hook(w: Who, target: addr);
	## A frame says that an address has a MAC. `w`'s name is empty where nobody can be named;
	## `unasked`: it is a reply that nobody asked for.
	global arp_claims: hook(w: Who, h: addr, mac: string, unasked: bool);
	## A reply that nobody asked for.
	global arp_unasked: hook(w: Who);
}

# Who asked for what, in two generations; an answer is one for so long.
const asked_for = 3secs;
global asked: table[addr, addr] of time;
global asked_before: table[addr, addr] of time;

hook rolled()
	{
	asked_before = asked;
	asked = table();
	}

function was_asked(target: addr, by: addr): bool
	{
	local last = double_to_time(0.0);
	if ( [target, by] in asked )
		last = asked[target, by];
	else if ( [target, by] in asked_before )
		last = asked_before[target, by];
	return now - last < asked_for;
	}

function claims(w: Who, h: addr, mac: string, unasked: bool)
	{
	# Nobody has the address 0.0.0.0, no group and no zeros have an address.
	if ( h != 0.0.0.0 && mac != "00:00:00:00:00:00" && mac[1] in "02468ace" )
		hook arp_claims(w, h, mac, unasked);
	}

event arp_request(mac_src: string, mac_dst: string, SPA: addr, SHA: string,
    TPA: addr, THA: string)
	{
	tick();
	local w = who_has(mac_src, SPA);
	local own = mac_src in own_macs;
	if ( SPA != TPA )
		{
		if ( |asked| < max_keys )
			asked[TPA, SPA] = now;
		else
			overflow("arp");
		if ( ! own && w$name != "" )
			hook arp_asked(w, TPA);
		}
	if ( ! own )
		claims(w, SPA, SHA, F);
	}

event arp_reply(mac_src: string, mac_dst: string, SPA: addr, SHA: string,
    TPA: addr, THA: string)
	{
	tick();
	if ( mac_src in own_macs )
		return;
	local w = who_has(mac_src, SPA);
	local unasked = ! was_asked(SPA, TPA);
	claims(w, SPA, SHA, unasked);
	if ( unasked )
		hook arp_unasked(w);
	}

event bad_arp(SPA: addr, SHA: string, TPA: addr, THA: string,
    explanation: string)
	{
	tick();
	if ( explanation != "weird-arp-sha" )
		return;
	# The event does not say whose frame it was; the frame does.
	local frame = get_current_packet_header();
	local mac = frame?$l2 && frame$l2?$src ? frame$l2$src : "";
	if ( mac !in own_macs )
		claims(who_has(mac, SPA), SPA, SHA, ! was_asked(SPA, TPA));
	}
