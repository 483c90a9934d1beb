"""Who is there: heartbeats, signed heads, bans."""
