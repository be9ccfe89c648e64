-- Puts a queue into the list of its tenant's ready queues, and tells dispatchers where the list was empty.
-- prefix    of the slot's keys        class     of the lane         kind   'f' first attempt, 'r' retry
-- queue     service:tenant:key        front     ahead of the others
local function makeReady(prefix, class, kind, queue, front)
  local service, tenant = string.match(queue, '^([^:]*):([^:]*):')
  local lane = class .. ':' .. service .. ':' .. kind .. ':' .. tenant
  local count = redis.call(front and 'LPUSH' or 'RPUSH', prefix .. 'r:' .. lane, queue)
  if count == 1 and redis.call('SADD', prefix .. 'lanes', lane) == 1 then
    redis.call('SPUBLISH', prefix .. 'ready', lane)
  end
end
