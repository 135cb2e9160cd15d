##! Rule "port_scan": one source tries many ports of one host, and most of them fail.

@load ./attempts

module IdsAppliance;

type Scanned: record {
	first: time;
	## Port -> whether it has ever answered; told apart up to `told_apart` of them.
	ports: table[port] of bool &default=table();
	failed: count &default=0;
	beyond: count &default=0;
};

const told_apart = 64;

global scanned: table[string, addr] of Scanned;

hook rolled()
	{
	scanned = table();
	}

function count_port(s: Scanned, p: port, failed: bool)
	{
	if ( p in s$ports )
		{
		if ( ! failed && ! s$ports[p] )
			{
			s$ports[p] = T;
			--s$failed;
			}
		return;
		}
	if ( |s$ports| < told_apart )
		s$ports[p] = ! failed;
	else
		++s$beyond;
	if ( failed )
		++s$failed;
	}

hook port_fate(a: Attempt, failed: bool)
	{
	local host = a$id$resp_h;
	local name = a$who$name;
	if ( scan_ports == 0 )
		return;
	if ( [name, host] !in scanned )
		{
		if ( |scanned| >= max_keys )
			{
			overflow("ports");
			return;
			}
		scanned[name, host] = Scanned($first=now);
		}
	local s = scanned[name, host];
	count_port(s, a$id$resp_p, failed);
	local ports = |s$ports| + s$beyond;
	if ( |s$ports| < scan_ports
	    || resting()
	    || s$failed < scan_failed_ratio * ports )
		return;
	local line = Line($rule="port_scan", $key=fmt("%s -> %s", name, host),
	    $resp=host);
	line$detail = fmt("%d ports of %s in %s, %d failed", ports, host, span(
	    s$first), s$failed);
	blame(line, a$who);
	fire(line);
	}
