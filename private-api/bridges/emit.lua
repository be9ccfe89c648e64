-- Runs at the Redis of an old fleet: sends one message to its servers, once, whatever bridge asks how often.
-- KEYS  1 marks of the bridge (hash: fence; slot → place of the last change that was emitted)
-- ARGV  1 fencing token   2 slot   3 place of the change (time-number)   4 place of the change before it in this session, or ''
--       5 seconds for which the marks are kept   6 command, PUBLISH, SPUBLISH or XADD   then its arguments
-- Returns 'emitted', 'repeat' (it was emitted before), 'stale' (another bridge has a later lease), or 'early' (the one before is missing).
-- Fails where the command fails, e.g. because the user has no right to it: the place is as before then.

local function isAtOrBefore(one, other)
  local oneTime, oneNumber = string.match(one, '^(%d+)-(%d+)$')
  local otherTime, otherNumber = string.match(other, '^(%d+)-(%d+)$')
  if oneTime == otherTime then
    return tonumber(oneNumber) <= tonumber(otherNumber)
  end
  return tonumber(oneTime) < tonumber(otherTime)
end

local stored = redis.call('HMGET', KEYS[1], 'fence', ARGV[2])
if tonumber(stored[1] or '0') > tonumber(ARGV[1]) then
  return 'stale'
end
local last = stored[2] or '0-0'
if isAtOrBefore(ARGV[3], last) then
  return 'repeat'
end
if ARGV[4] ~= '' and last ~= ARGV[4] then
  return 'early'
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
local sent = redis.pcall(ARGV[6], unpack(ARGV, 7))
if type(sent) == 'table' and sent.err then
  redis.call('HSET', KEYS[1], ARGV[2], last)
  return sent
end
return 'emitted'
