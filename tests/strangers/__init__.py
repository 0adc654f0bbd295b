"""What strangers made, opened in limited children: nothing written outside, no process killed, no file of the user's shown."""
