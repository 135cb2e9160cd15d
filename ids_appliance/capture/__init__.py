"""Where frames come from: capture files and network interfaces. See types.Source."""
