-- The prefix of the keys of a slot, by its number. KEYS[1] is a key of such a slot.
local beforeSlot = string.match(KEYS[1], '^.*{')
local function prefixOf(slot)
  return beforeSlot .. slot .. '}:queues2:'
end
