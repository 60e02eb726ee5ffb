-- Compare-and-set on resolutions; answers for each change '1' or '0': whether it took.
-- ARGV: each change as id, expected revision, and kind, version and rest of the resolution, or nothing.
local ids, place = {}, {}
for at = 1, #ARGV, 3 do
  local id = ARGV[at]
  if not place[id] then
    ids[#ids + 1] = id
    place[id] = #ids
  end
end
local values, resolutions = load(ids)
local held_values, held_resolutions = {}, {}
for i = 1, #ids do held_values[i], held_resolutions[i] = values[i], resolutions[i] end

local function raised(revision)
  local digits = { byte(revision, 1, 8) }
  for i = 8, 1, -1 do
    digits[i] = (digits[i] + 1) % 256
    if digits[i] ~= 0 then break end
  end
  return char(unpack(digits))
end

local function takes(value, resolution, expected, to)
  if not value or (resolution and sub(resolution, 1, 8) or ZERO) ~= expected then return false end
  if to == '' then return true end
  local at = rank_at(value)
  if byte(to, 1) <= 2 then return is_blocking(value, at) and sub(to, 2, 9) == sub(value, at, at + 7) end
  return byte(value, at + 32) == 2 and sub(to, 2, 34) == sub(value, at, at + 32)
end

local took = {}
for at = 1, #ARGV, 3 do
  local i = place[ARGV[at]]
  local value, expected, to = values[i], ARGV[at + 1], ARGV[at + 2]
  if takes(value, resolutions[i], expected, to) then
    resolutions[i] = raised(expected) .. to
    values[i] = value_of(first_of(value), true, has(byte(value, 1), 4), sub(value, rank_at(value)))
    took[#took + 1] = '1'
  else
    took[#took + 1] = '0'
  end
end

local put, resolved, add, drop = {}, {}, {}, {}
for i, id in ipairs(ids) do
  if resolutions[i] ~= held_resolutions[i] then
    put[#put + 1] = id
    put[#put + 1] = values[i]
    resolved[#resolved + 1] = id
    resolved[#resolved + 1] = resolutions[i]
    difference(add, drop, members_of(id, held_values[i], held_resolutions[i]), members_of(id, values[i], resolutions[i]))
  end
end
chunked('HSET', ENTRIES, put)
chunked('HSET', RESOLUTIONS, resolved)
chunked('ZREM', INDEX, drop)
chunked('ZADD', INDEX, add)
return table.concat(took)
