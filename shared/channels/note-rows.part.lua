-- Notes rows of SQL sources that leave the change log, while a cursor needs them: they are read from their table then. Between them it notes
-- holes: other changes that have left the log.
-- rows (stream, entry id = place; fields of a row: h as in the log, r 'shard id bytes'; of a hole, by its last change: n 'namespace,…' or '*',
-- f time of its first change)
-- State of the log: floor: every change after it is in the log, in rows, or in a hole; rowBytes; hole 'place time namespaces': the one after the last row

local rowsKey = KEYS[3] .. ':rows'
local maxRowBytes = tonumber(ARGV[17])
-- Longest time for which rows are noted: 30 days, or as long as changes are kept.
local oldestRow = now - math.max(2592000000, tonumber(ARGV[12]))
local neededFrom = math.max(oldestRow, tonumber(redis.call('ZRANGE', KEYS[5], '0', '0', 'WITHSCORES')[2] or math.huge))
if (rowBytes == 0 and hole == '') or (rowBytes > 0 and redis.call('EXISTS', rowsKey) == 0) then
  floor, rowBytes, hole = trimmed, 0, ''
end

local function noteRemoved(id, fields)
  local head, row = fields[2], fields[5] == 'r' and fields[6]
  local time = string.match(id, '^%d+')
  local place, since, namespaces = string.match(hole, '^(%S+) (%d+) (%S+)$')
  local isNeeded = tonumber(time) >= neededFrom and maxRowBytes > 0
  if row and isNeeded then
    if place then
      redis.call('XADD', rowsKey, place, 'n', namespaces, 'f', since)
      rowBytes = rowBytes + #namespaces + 64
      hole = ''
    end
    local source = row .. ' ' .. #fields[4]
    redis.call('XADD', rowsKey, id, 'h', head, 'r', source)
    rowBytes = rowBytes + #head + #source + 64
  elseif rowBytes == 0 and not place and not isNeeded then
    floor = id
  else
    local namespace = string.match(head, '([^ :]*)[^ ]*$')
    if not place then
      since, namespaces = time, namespace
    elseif namespaces ~= '*' and not string.find(',' .. namespaces .. ',', ',' .. namespace .. ',', 1, true) then
      namespaces = #namespaces < 256 and namespaces .. ',' .. namespace or '*'
    end
    hole = id .. ' ' .. since .. ' ' .. namespaces
  end
end

-- Forgets the oldest, up to 64, where they are past the caps, or no cursor needs them any more.
local function forgetRows()
  local last
  for _, entry in ipairs(redis.call('XRANGE', rowsKey, '-', '+', 'COUNT', '64')) do
    local id, fields = entry[1], entry[2]
    if rowBytes <= maxRowBytes and tonumber(string.match(id, '^%d+')) >= neededFrom then
      break
    end
    rowBytes = rowBytes - #fields[2] - (fields[1] == 'h' and #fields[4] or 0) - 64
    floor, last = id, id
  end
  if last then
    local time, number = string.match(last, '^(%d+)-(%d+)$')
    redis.call('XTRIM', rowsKey, 'MINID', string.format('%s-%.0f', time, number + 1))
  end
  if redis.call('XLEN', rowsKey) > 0 then
    redis.call('PEXPIRE', rowsKey, string.format('%.0f', now - oldestRow))
    return
  end
  redis.call('DEL', rowsKey)
  rowBytes = 0
  if hole == '' or tonumber(string.match(hole, '^%d+')) < neededFrom then
    floor, hole = trimmed, ''
  end
end
