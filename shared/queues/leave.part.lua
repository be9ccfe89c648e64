-- Takes the first items of a queue out of it. Call uncount once a slot is done.
-- Returns the items, and the class of the next one where there is one.
local gone = { depths = {}, sources = {} }
local function leave(prefix, queue, count)
  local list = prefix .. 'q:' .. queue
  local items = redis.call('LPOP', list, count) or {}
  local tenant = string.match(queue, '^[^:]*:([^:]*):')
  for _, item in ipairs(items) do
    local class, source = string.match(item, '^%d+ (%S+) ?(%S*)')
    local depth = class .. ':' .. tenant
    gone.depths[depth] = (gone.depths[depth] or 0) + 1
    if source ~= '' then
      gone.sources[source] = (gone.sources[source] or 0) + 1
    end
  end
  local head = redis.call('LINDEX', list, 0)
  return items, head and string.match(head, '^%d+ (%S+)')
end

local function uncount(prefix)
  for name, counts in pairs(gone) do
    for field, number in pairs(counts) do
      if redis.call('HINCRBY', prefix .. name, field, -number) <= 0 then
        redis.call('HDEL', prefix .. name, field)
      end
    end
    gone[name] = {}
  end
end
