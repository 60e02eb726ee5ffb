-- What a listing and a count by cause share: the members of some ranges of the index, merged, in either direction, and
-- the filters. ARGV: `id` or `time`, what orders, how many bytes of a member come before it, `up` or `down`, how many matches at most,
-- how much work at most, how many ranges, each as least and greatest, then the filters as name and value.
-- Where the id begins in what orders.
local id_at = ARGV[1] == 'time' and 9 or 1
local skip = tonumber(ARGV[2])
local down = ARGV[3] == 'down'
local wanted = tonumber(ARGV[4])
local work = tonumber(ARGV[5])
local count = tonumber(ARGV[6])
local filter = {}
for i = 7 + count * 2, #ARGV, 2 do filter[ARGV[i]] = ARGV[i + 1] end

local ranges = {}
for i = 1, count do ranges[i] = { min = ARGV[5 + i * 2], max = ARGV[6 + i * 2] } end

-- The next members of a range; as many as are wanted, so that a page of an unfiltered listing is one look at each range.
local BATCH = math.max(16, math.min(wanted, 500))

local function refill(range)
  if down then
    range.members = call('ZRANGE', INDEX, range.max, range.min, 'BYLEX', 'REV', 'LIMIT', 0, BATCH)
  else
    range.members = call('ZRANGE', INDEX, range.min, range.max, 'BYLEX', 'LIMIT', 0, BATCH)
  end
  work = work - 1
  range.at = 1
  local last = range.members[#range.members]
  if not last then return false end
  if down then range.max = '(' .. last else range.min = '(' .. last end
  range.head = sub(range.members[1], skip + 1)
  return true
end

local active = {}
for _, range in ipairs(ranges) do
  if refill(range) then active[#active + 1] = range end
end

-- What orders the next member of all ranges.
local function following()
  local best = 1
  for i = 2, #active do
    if less(active[i].head, active[best].head) ~= down then best = i end
  end
  local range = active[best]
  if not range then return nil end
  local head = range.head
  range.at = range.at + 1
  local member = range.members[range.at]
  if member then
    range.head = sub(member, skip + 1)
  elseif #range.members < BATCH or not refill(range) then
    table.remove(active, best)
  end
  return head
end

local function id_matches(id)
  if filter.prefix and sub(id, 1, #filter.prefix) ~= filter.prefix then return false end
  if filter.from then
    local offset = sub(id, -8)
    if less(offset, filter.from) or not less(offset, filter.to) then return false end
  end
  return true
end

local function matches(id, value)
  local at = rank_at(value)
  if filter.era and sub(value, at, at + 7) ~= filter.era then return false end
  local failed = byte(value, at + 33) == 1
  if filter.class and not (failed and sub(value, at + 42, at + 41 + #filter.class) == filter.class) then return false end
  if filter.fingerprint and not (failed and sub(value, -23, -16) == filter.fingerprint) then return false end
  if filter.since then
    local first = first_of(value)
    if not first or less(first, filter.since) or not less(first, filter.before) then return false end
  end
  if filter.text then
    if not failed then return false end
    work = work - #value / 256
    local _, start = string.find(value, '\0\0', at + 42, true)
    if not string.find(string.lower(sub(value, start + 1, -26)), filter.text, 1, true) then return false end
  end
  if filter.key then
    local bytes = has(byte(value, 1), 4) and call('HGET', CAPTURED, id)
    work = work - 1 - (bytes and #bytes / 1024 or 0)
    if not bytes or sub(bytes, 1, #filter.key) ~= filter.key then return false end
  end
  return true
end

-- Hands every match to `found` until it has had enough, and to `odd` what is not whole; answers where to go on, unless it came
-- to the end.
local function scan(found, odd)
  while true do
    local head = following()
    if not head then return false end
    work = work - 1
    local id = sub(head, id_at)
    if id_matches(id) then
      work = work - 1
      local value = call('HGET', ENTRIES, id)
      if value and not is_whole(value) then
        odd(id, value)
      elseif value and matches(id, value) and found(id, value) then
        return head
      end
    end
    if work <= 0 and #active > 0 then return head end
  end
end
