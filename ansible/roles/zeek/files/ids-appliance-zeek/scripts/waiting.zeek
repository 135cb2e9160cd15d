##! Attempts in, their time-outs out, each at its own time: nobody has answered, or a connection
##! has stood long enough to be told from a brief one.

@load ./attempts

module IdsAppliance;

# In the order in which they are due. What is over by then is passed over; it has no entry
# elsewhere for long, and the queues are no longer than the table of attempts may be.
global pending: table[count] of Attempt;
global pending_first = 0;
global pending_next = 0;
global opened: table[count] of Attempt;
global opened_first = 0;
global opened_next = 0;

# Later than any packet: the first one may come decades after a clock that starts at nought.
const never = double_to_time(1.0e11);

function wait_for_answer(a: Attempt)
	{
	pending[pending_next] = a;
	++pending_next;
	}

function wait_for_end(a: Attempt)
	{
	a$stage = OPEN;
	a$since = now;
	opened[opened_next] = a;
	++opened_next;
	}

function entries(): count
	{
	return |flows| + |flows_before| + |pending| + |opened|;
	}

function was_brief(a: Attempt): bool
	{
	if ( ! connection_exists(a$id) )
		return F;
	local c = lookup_connection(a$id);
	if ( /[FfRr]/ in c$history )
		return T;
	return whole
	    && c$orig?$num_pkts
	    && c$orig$num_pkts + c$resp$num_pkts <= brief_packets;
	}

function no_answer_came(a: Attempt)
	{
	if ( resting() )
		{ # An answer may have been lost on the way here.
		a$stage = OVER;
		a$since = now;
		return;
		}
	if ( ! a$silent )
		hook port_fate(a, T);
	settle(a, T);
	}

hook set_back()
	{
	pending = table();
	pending_first = pending_next = 0;
	opened = table();
	opened_first = opened_next = 0;
	}

function pending_due(): time
	{
	while ( pending_first < pending_next )
		{
		if ( pending[pending_first]$stage == PENDING )
			return pending[pending_first]$since + no_answer;
		delete pending[pending_first];
		++pending_first;
		}
	return never;
	}

function opened_due(): time
	{
	while ( opened_first < opened_next )
		{
		if ( opened[opened_first]$stage == OPEN )
			return opened[opened_first]$since + brief;
		delete opened[opened_first];
		++opened_first;
		}
	return never;
	}

hook due(t: time)
	{
	while ( T )
		{
		local answer_at = pending_due();
		local end_at = opened_due();
		if ( answer_at > t && end_at > t )
			break;
		if ( answer_at <= end_at )
			{
			set_clock(answer_at);
			no_answer_came(pending[pending_first]);
			}
		else
			{
			set_clock(end_at);
			settle(opened[opened_first], was_brief(opened[opened_first]));
			}
		}
	}
