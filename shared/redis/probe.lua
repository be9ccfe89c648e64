#!lua
-- Proves that the server takes writes, and publishes a message.
-- KEYS  1 probe (string, deleted before the script ends)
-- ARGV  1 topic   2 message
-- Returns 1.

redis.call('SET', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[1])
redis.call('SPUBLISH', ARGV[1], ARGV[2])
return 1
