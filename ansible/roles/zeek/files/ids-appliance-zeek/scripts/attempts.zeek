##! Exchanges in, their fates out: each attempt is answered, refused, or nobody has answered in
##! time; and what was answered was brief or not.

@load ./attempt

module IdsAppliance;

## What is over is forgotten after this time: the next SYN is a new attempt.
const linger = 3secs;

# Two generations, each of a rule window: what is pending or open is always in one of them.
global flows: table[addr, port, addr, port] of Attempt;
global flows_before: table[addr, port, addr, port] of Attempt;

hook rolled()
	{
	flows_before = flows;
	flows = table();
	}

function know(id: conn_id): bool
	{
	if ( [id$orig_h, id$orig_p, id$resp_h, id$resp_p] in flows )
		found = flows[id$orig_h, id$orig_p, id$resp_h, id$resp_p];
	else if ( [id$orig_h, id$orig_p, id$resp_h, id$resp_p] in flows_before )
		found = flows_before[id$orig_h, id$orig_p, id$resp_h, id$resp_p];
	else
		return F;
	return found$stage != OVER || now - found$since < linger;
	}

function begin(c: connection, probe: bool, silent: bool)
	{
	local id = c$id;
	if ( know(id) )
		found$stage = OVER;
	if ( |flows| + |flows_before| >= max_flows )
		{
		overflow("exchanges");
		return;
		}
	local a = Attempt($who=who_is(id$orig_h, c$orig), $id=id, $began=c$start_time,
	    $since=now, $probe=probe, $silent=silent || is_own(id$orig_h));
	flows[id$orig_h, id$orig_p, id$resp_h, id$resp_p] = a;
	wait_for_answer(a);
	}

function settle(a: Attempt, bad: bool)
	{
	a$stage = OVER;
	a$since = now;
	if ( ! a$silent )
		hook attempt_fate(a, bad);
	}

function answered(a: Attempt)
	{
	if ( a$answered )
		return;
	a$answered = T;
	if ( ! a$silent )
		hook port_fate(a, F);
	if ( a$stage != PENDING )
		return;
	if ( a$probe || get_port_transport_proto(a$id$resp_p) != tcp )
		settle(a, F);
	else
		wait_for_end(a);
	}

function refused(a: Attempt)
	{
	a$refused = T;
	if ( a$stage != PENDING )
		return;
	if ( ! a$silent )
		hook port_fate(a, T);
	settle(a, T);
	}

function closed(a: Attempt)
	{
	if ( a$stage == OPEN )
		settle(a, T);
	}
