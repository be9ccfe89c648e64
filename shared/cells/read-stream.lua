#!lua flags=no-writes
-- Reads a part of a stream, whose entries leave at the head only.
-- KEYS  1 stream   2 its state: where it has an epoch, each epoch has another stream
-- ARGV  1 id of the last entry that is copied, or ''   2 epoch of that copy   3 bytes of entries about
-- Returns {1 where the part begins the stream, 0 where it continues the copy; id of the first entry; id of the last one; ms to live;
-- epoch or ''; entries...}, or nil where there is no stream.

local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', '1')[1]
if not first then
  return false
end
local epoch = redis.call('HGET', KEYS[2], 'epoch') or ''
local isNew = ARGV[1] == '' or epoch ~= ARGV[2]
if not isNew then
  -- Another stream of that name, unless the last entry is there, or has left with all before it.
  local last = redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', '1')[1]
  isNew = last ~= nil and last[1] ~= ARGV[1]
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', '1')[1]
local reply = { isNew and 1 or 0, first[1], newest[1], redis.call('PTTL', KEYS[1]), epoch }
local from = isNew and '-' or '(' .. ARGV[1]
local bytes = 0
repeat
  local entries = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', '16')
  for _, entry in ipairs(entries) do
    reply[#reply + 1] = entry
    bytes = bytes + 64
    for _, text in ipairs(entry[2]) do
      bytes = bytes + #text
    end
    from = '(' .. entry[1]
  end
until #entries < 16 or bytes >= tonumber(ARGV[3])
return reply
