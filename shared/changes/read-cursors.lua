#!lua flags=no-writes
-- Reads a consumer's cursors.
-- KEYS  1 and 2 see scriptKeys
-- ARGV  1 name   then for each slot: its log
-- Returns for each slot the place, or ''.

local replies = {}
for index = 2, #ARGV do
  replies[#replies + 1] = redis.call('HGET', ARGV[index] .. ':cursors', ARGV[1]) or ''
end
return replies
