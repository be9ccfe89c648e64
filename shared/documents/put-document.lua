#!lua
-- Stores a new version of a document if its conditions hold, and announces the change.
-- KEYS  1 document (hash: version, changedAt, document)
-- ARGV  1 document (JSON text)   2 changed at (Unix ms), or '': now   3 required version, or ''   4 '1': only if the stored document is older   5 topic
--       6 new version at the least, or ''
-- Returns {outcome, version, changed at: that of the version} with outcome 'stored', 'unchanged', 'older' or 'version_differs'.

local stored = redis.call('HMGET', KEYS[1], 'version', 'changedAt', 'document')
local version = tonumber(stored[1] or '0')
local storedAt = tonumber(stored[2] or '0')
if ARGV[3] ~= '' and tonumber(ARGV[3]) ~= version then
  return { 'version_differs', version, storedAt }
end
local least = tonumber(ARGV[6]) or 0
if stored[3] == ARGV[1] and version >= least then
  return { 'unchanged', version, storedAt }
end
-- The clock of the program that read the document may be ahead: nothing would be newer until that time.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local changedAt = math.min(tonumber(ARGV[2]) or now, now)
if ARGV[4] == '1' and changedAt <= storedAt then
  return { 'older', version, storedAt }
end
-- Never earlier, even if the clock has stepped back: the process that put the previous version would take that for a loss.
changedAt = math.max(changedAt, storedAt)
version = math.max(version + 1, least)
redis.call('HSET', KEYS[1], 'version', version, 'changedAt', string.format('%.0f', changedAt), 'document', ARGV[1])
redis.call('SPUBLISH', ARGV[5], version)
return { 'stored', version, changedAt }
