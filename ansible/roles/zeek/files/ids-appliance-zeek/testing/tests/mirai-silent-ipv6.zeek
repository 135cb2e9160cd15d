# @TEST-EXEC: zeek -b -C -r $TRACES/mirai-silent-ipv6.pcap $PACKAGE %INPUT
# @TEST-EXEC: rules-and-keys trigger.log > said
# @TEST-EXEC: btest-diff said

redef IdsAppliance::own_headers = T;
redef IdsAppliance::whole = T;
redef use_conn_size_analyzer = T;
redef IdsAppliance::own_macs += { "02:aa:00:00:00:01" };
redef IdsAppliance::own_addresses += { 192.0.2.254, [2001:db8:0:0:0:0:0:254] };
