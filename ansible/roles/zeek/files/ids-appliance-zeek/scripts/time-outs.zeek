##! Short memories: a flood of half-open connections must not outlive the rules' windows.

redef tcp_attempt_delay = 1sec;
redef tcp_SYN_timeout = 1sec;
redef tcp_session_timer = 2secs;
redef tcp_inactivity_timeout = 15secs;
redef tcp_close_delay = 1sec;
redef tcp_reset_delay = 1sec;
redef tcp_connection_linger = 1sec;
redef udp_inactivity_timeout = 10secs;
redef icmp_inactivity_timeout = 10secs;

# Nobody reads payload here.
redef dpd_reassemble_first_packets = F;
redef use_conn_size_analyzer = F;
