##! Rule "mirai": one source tries many hosts on few ports, and most attempts fail or are brief.
##! Cues of their own: ICMP echo requests to many hosts, ARP requests for many addresses.

@load ./arp
@load ./attempts
@load ./icmp

module IdsAppliance;

type Sweep: record {
	first: time;
	hosts: set[addr] &default=set();
	## Attempts by port, of a source's first ports.
	ports: table[port] of count &default=table();
	total: count &default=0;
	bad: count &default=0;
};

const hosts_told_apart = 64;
const ports_told_apart = 16;

global sweeps: table[string] of Sweep;
global echoes: table[string] of Sweep;
global arp_sweeps: table[string] of Sweep;

hook rolled()
	{
	sweeps = table();
	echoes = table();
	arp_sweeps = table();
	}

function swept(sweep_of: table[string] of Sweep, w: Who, host: addr): bool
	{
	if ( w$name !in sweep_of )
		{
		if ( |sweep_of| >= max_keys )
			{
			overflow("hosts");
			return F;
			}
		sweep_of[w$name] = Sweep($first=now);
		}
	if ( |sweep_of[w$name]$hosts| < hosts_told_apart )
		add sweep_of[w$name]$hosts[host];
	return T;
	}

function tell(w: Who, detail: string)
	{
	local line = Line($rule="mirai", $key=w$name, $detail=detail);
	blame(line, w);
	fire(line);
	}

function of_top_ports(s: Sweep): count
	{
	local tries: vector of count;
	for ( p, n in s$ports )
		tries += n;
	sort(tries, function(a: count, b: count): int
		{
		return a > b ? -1 : 1;
		});
	local top = 0;
	for ( i, n in tries )
		if ( i < mirai_top_ports )
			top += n;
	return top;
	}

hook attempt_fate(a: Attempt, bad: bool)
	{
	if ( mirai_hosts == 0 || ! swept(sweeps, a$who, a$id$resp_h) )
		return;
	local s = sweeps[a$who$name];
	local p = a$id$resp_p;
	if ( p in s$ports )
		++s$ports[p];
	else if ( |s$ports| < ports_told_apart )
		s$ports[p] = 1;
	++s$total;
	if ( bad )
		++s$bad;
	if ( |s$hosts| < mirai_hosts
	    || resting()
	    || s$bad < mirai_failed_or_brief_ratio * s$total )
		return;
	if ( of_top_ports(s) >= mirai_top_ports_ratio * s$total )
		tell(a$who, fmt("attempts on %d hosts in %s, %d of them failed or brief",
		    |s$hosts|, span(s$first), s$bad));
	}

hook echo_seen(w: Who, host: addr)
	{
	if ( mirai_echo_hosts == 0 || ! swept(echoes, w, host) )
		return;
	local s = echoes[w$name];
	if ( |s$hosts| >= mirai_echo_hosts )
		tell(w, fmt("ICMP echo to %d hosts in %s", |s$hosts|, span(s$first)));
	}

hook arp_asked(w: Who, target: addr)
	{
	if ( mirai_arp_targets == 0 || ! swept(arp_sweeps, w, target) )
		return;
	local s = arp_sweeps[w$name];
	if ( |s$hosts| >= mirai_arp_targets )
		tell(w, fmt("ARP requests for %d addresses in %s", |s$hosts|, span(s$first)));
	}
