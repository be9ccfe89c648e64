-- Whether one place (time-number) is before another.
local function isBefore(one, other)
  local oneTime, oneNumber = string.match(one, '^(%d+)-(%d+)$')
  local otherTime, otherNumber = string.match(other, '^(%d+)-(%d+)$')
  oneTime, otherTime = tonumber(oneTime), tonumber(otherTime)
  return oneTime < otherTime or (oneTime == otherTime and tonumber(oneNumber) < tonumber(otherNumber))
end
