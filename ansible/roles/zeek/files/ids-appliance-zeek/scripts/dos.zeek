##! Rule "dos": many SYNs to one address and port, few of them completed by the originator's ACK.
##! Keyed by the victim, for a flood's sources are forged.

@load ./tcp

module IdsAppliance;

type Flooded: record {
	first: time;
	syns: count &default=0;
	done: count &default=0;
	## Misra and Gries with four counters: who has more than half certainly has one.
	heavy: table[string] of count &default=table();
	who: table[string] of Who &default=table();
};

global flooded: table[addr, port] of Flooded;

## Floods of nobody in particular; what else their SYNs may look like is no matter.
const max_floods = 15;
global floods: table[addr, port] of time &create_expire=60secs;

hook rolled()
	{
	flooded = table();
	}

function in_flood(c: connection): bool
	{
	return [c$id$resp_h, c$id$resp_p] in floods
	    && who_is(c$id$orig_h, c$orig)$mac == "";
	}

function victim_of(c: connection): bool
	{
	if ( [c$id$resp_h, c$id$resp_p] in flooded )
		return T;
	if ( |flooded| < max_keys )
		{
		flooded[c$id$resp_h, c$id$resp_p] = Flooded($first=now);
		return T;
		}
	overflow("dos");
	return F;
	}

function weigh(f: Flooded, w: Who)
	{
	if ( w$name in f$heavy || |f$heavy| < 4 )
		{
		f$heavy[w$name] = w$name in f$heavy ? f$heavy[w$name] + 1 : 1;
		f$who[w$name] = w;
		return;
		}
	local kept: table[string] of count = table();
	local who: table[string] of Who = table();
	for ( name, n in f$heavy )
		if ( n > 1 )
			{
			kept[name] = n - 1;
			who[name] = f$who[name];
			}
	f$heavy = kept;
	f$who = who;
	}

hook syn_seen(c: connection)
	{
	if ( dos_syns == 0 || ! victim_of(c) )
		return;
	local h = c$id$resp_h;
	local p = c$id$resp_p;
	local f = flooded[h, p];
	++f$syns;
	weigh(f, who_is(c$id$orig_h, c$orig));
	if ( f$syns < dos_syns
	    || resting()
	    || f$done >= dos_handshake_ratio * f$syns )
		return;
	local line = Line($rule="dos", $key=place(h, p), $resp=h,
	    $resp_p=port_to_count(p));
	line$detail = fmt("%d SYNs to %s in %s, %d handshakes", f$syns, place(h, p),
	    span(f$first), f$done);
	for ( name, n in f$heavy )
		if ( 2 * n > f$syns )
			blame(line, f$who[name]);
	if ( ! line?$orig && |floods| < max_floods )
		floods[h, p] = now;
	fire(line);
	}

hook handshake_done(c: connection)
	{
	if ( dos_syns > 0 && victim_of(c) )
		++flooded[c$id$resp_h, c$id$resp_p]$done;
	}
