##! What is inside a tunnel is what its sender says it is. Zeek would count a packet wrapped in
##! VXLAN (UDP to port 4789, from anywhere) as its inner sender's, and believe an ARP reply in it:
##! anybody could have anybody accused. Only a VLAN is unwrapped, as in the appliance's own screen.

module IdsAppliance;

const wrappings: set[PacketAnalyzer::Tag] = {
	PacketAnalyzer::ANALYZER_AYIYA,
	PacketAnalyzer::ANALYZER_GENEVE,
	PacketAnalyzer::ANALYZER_GRE,
	PacketAnalyzer::ANALYZER_GTPV1,
	PacketAnalyzer::ANALYZER_IPTUNNEL,
	PacketAnalyzer::ANALYZER_MPLS,
	PacketAnalyzer::ANALYZER_PBB,
	PacketAnalyzer::ANALYZER_PPPOE,
	PacketAnalyzer::ANALYZER_SNAP,
	PacketAnalyzer::ANALYZER_TEREDO,
	PacketAnalyzer::ANALYZER_VNTAG,
	PacketAnalyzer::ANALYZER_VXLAN,
};

event zeek_init()
	{
	for ( wrapping in wrappings )
		Analyzer::disable_analyzer(wrapping);
	}
