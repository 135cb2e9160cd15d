##! What an attempt is, and what the rules hear of its fate.

@load ./rest
@load ./who

module IdsAppliance;

export {
	## An attempt waits for its answer, then for its end while it would be brief.
	type Stage: enum {
		PENDING,
		OPEN,
		OVER
	};

	type Attempt: record {
		who: Who;
		id: conn_id;
		began: time;
		stage: Stage &default=PENDING;
		since: time;
		answered: bool &default=F;
		refused: bool &default=F;
		## The number that the responder's SYN-ACK has; the handshake's ACK is one more.
		number: count &default=0;
		## Not the start of anything: a bare flag.
		probe: bool &default=F;
		## Remembered for its answers, counted by no rule: our own, or part of a flood.
		silent: bool &default=F;
	};

	## The fate of a port: of an attempt, and again where it is answered late.
	global port_fate: hook(a: Attempt, failed: bool);
	## The fate of an attempt, once.
	global attempt_fate: hook(a: Attempt, bad: bool);

	## Begin an attempt in place of what is known of the same ends.
	global begin: function(c: connection, probe: bool, silent: bool);
	## Whether an attempt of these ends, in this direction, is known; `found` is it.
	global know: function(id: conn_id): bool;
	global found: Attempt;
	## What has become of one.
	global answered: function(a: Attempt);
	global refused: function(a: Attempt);
	global closed: function(a: Attempt);
	## Let one wait for its answer, or for its end.
	global wait_for_answer: function(a: Attempt);
	global wait_for_end: function(a: Attempt);
	## Entries of the tables here.
	global entries: function(): count;
}
