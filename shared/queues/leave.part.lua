-- Takes the first items of a queue out of it. Call uncount once a slot is done.
local gone = { depths = {}, sources = {} }
local function countGone(tenant, class, source)
  local depth = class .. ':' .. tenant
  gone.depths[depth] = (gone.depths[depth] or 0) + 1
  if source ~= '' then
    gone.sources[source] = (gone.sources[source] or 0) + 1
  end
end

local function uncount(prefix)
  for name, counts in pairs(gone) do
    for field, number in pairs(counts) do
      if redis.call('HINCRBY', prefix .. name, field, string.format('%d', -number)) <= 0 then
        redis.call('HDEL', prefix .. name, field)
      end
    end
    gone[name] = {}
  end
end

-- Returns the class of the first item of a list where there is one.
local function classOfNext(list)
  local label = redis.call('LINDEX', list, '0')
  return label and string.match(label, '^%d+ (%S+)')
end

-- Returns the class of the next item if there is one; then sequence, label and content of the last item that left.
local function leave(prefix, queue, tenant, items)
  local list = prefix .. 'q:' .. queue
  local elements = redis.call('LPOP', list, 2 * items) or {}
  local sequence
  for at = 1, #elements, 2 do
    local class, source
    sequence, class, source = string.match(elements[at], '^(%d+) (%S+) ?(%S*)$')
    countGone(tenant, class, source)
  end
  return classOfNext(list), sequence, elements[#elements - 1], elements[#elements]
end
