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

function asks(w: Who, own: bool, SPA: addr, SHA: string, TPA: addr)
	{
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

function replies(w: Who, own: bool, SPA: addr, SHA: string, TPA: addr)
	{
	if ( own )
		return;
	local unasked = ! was_asked(SPA, TPA);
	claims(w, SPA, SHA, unasked);
	if ( unasked )
		hook arp_unasked(w);
	}

event arp_request(mac_src: string, mac_dst: string, SPA: addr, SHA: string,
    TPA: addr, THA: string)
	{
	tick();
	asks(who_has(mac_src, SPA), mac_src in own_macs, SPA, SHA, TPA);
	}

event arp_reply(mac_src: string, mac_dst: string, SPA: addr, SHA: string,
    TPA: addr, THA: string)
	{
	tick();
	replies(who_has(mac_src, SPA), mac_src in own_macs, SPA, SHA, TPA);
	}

# Where the operation stands in an Ethernet frame without tags.
const operation_at = 20;

event bad_arp(SPA: addr, SHA: string, TPA: addr, THA: string,
    explanation: string)
	{
	tick();
	if ( explanation != "weird-arp-sha" )
		return;
	# The event says neither whose frame it was nor what it wants; the frame does.
	local frame = get_current_packet_header();
	local mac = frame?$l2 && frame$l2?$src ? frame$l2$src : "";
	local at = operation_at;
	if ( frame?$l2 && frame$l2?$vlan )
		at += 4;
	if ( frame?$l2 && frame$l2?$inner_vlan )
		at += 4;
	if ( get_current_packet()$data[at : at + 2] == "\x00\x01" )
		asks(who_has(mac, SPA), mac in own_macs, SPA, SHA, TPA);
	else
		replies(who_has(mac, SPA), mac in own_macs, SPA, SHA, TPA);
	}
