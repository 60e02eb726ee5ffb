-- What every script begins with: rows as they are held, and the index members that follow from them.
--
-- KEYS: format, entries, captured, resolutions, progress, index, aside. All of a namespace's keys are declared, so that a cluster
-- that moves the slot answers TRYAGAIN instead of showing half a namespace.
--
-- An entry's value: flags (1: has a first failure, 2: has a resolution row, 4: has captured bytes), first failure (8 bytes,
-- if any), rank. A rank: version (era 8, term 8, attempt 16, outcome 1), whether there is a failure (1), at (8), failure.
-- A resolution's value: revision (8), then nothing, or kind (1), version that it is about (33), the rest.
-- Numbers are big-endian and order as bytes: a Lua number would round them.
local ENTRIES, CAPTURED, RESOLUTIONS, PROGRESS, INDEX = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local ASIDE = KEYS[7]
local sub, byte, char, call = string.sub, string.byte, string.char, redis.call
local ZERO = string.rep('\0', 8)
-- As many arguments as one command is given: Lua's stack holds 8 000.
local CHUNK = 1000

-- Byte by byte. Lua's own `<` follows the locale that the server was started in.
local function less(a, b)
  if a == b then return false end
  local n = math.min(#a, #b)
  local i = 1
  while i + 15 <= n and sub(a, i, i + 15) == sub(b, i, i + 15) do i = i + 16 end
  while i <= n do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then return x < y end
    i = i + 1
  end
  return #a < #b
end

local function many(key, fields)
  local found = {}
  for from = 1, #fields, CHUNK do
    local to = math.min(from + CHUNK - 1, #fields)
    local part = call('HMGET', key, unpack(fields, from, to))
    for i = 1, to - from + 1 do found[from + i - 1] = part[i] end
  end
  return found
end

-- `arguments` in calls of at most CHUNK, an even number, so that pairs stay together.
local function chunked(command, key, arguments)
  for from = 1, #arguments, CHUNK do
    call(command, key, unpack(arguments, from, math.min(from + CHUNK - 1, #arguments)))
  end
end

local function has(flags, bit) return math.floor(flags / bit) % 2 == 1 end

-- Where the rank begins.
local function rank_at(value) return has(byte(value, 1), 1) and 10 or 2 end

local function first_of(value) return has(byte(value, 1), 1) and sub(value, 2, 9) or nil end

-- Whether a value is as we write it: a disk may have damaged it, or somebody else wrote it.
local function is_whole(value)
  local flags = byte(value, 1)
  if not flags or flags > 7 then return false end
  local least = rank_at(value) + 41
  if #value < least or byte(value, least - 9) > 3 then return false end
  return byte(value, least - 8) ~= 1 or #value >= least + 27
end

local function value_of(first, resolved, captured, rank)
  local flags = (first and 1 or 0) + (resolved and 2 or 0) + (captured and 4 or 0)
  return char(flags) .. (first or '') .. rank
end

local function is_blocking(value, at)
  return byte(value, at + 32) == 1 and (byte(value, at + 33) == 0 or byte(value, -11) == 0)
end

-- What a person sees, numbered as `Status` is.
local function status_of(value, at, resolution)
  local outcome = byte(value, at + 32)
  if outcome == 0 then return 0 end
  if outcome == 3 then return 8 end
  if outcome == 1 then return is_blocking(value, at) and 2 or 1 end
  local kind = resolution and byte(resolution, 9)
  if kind == 2 and sub(resolution, 10, 17) == sub(value, at, at + 7) then return 4 end
  if kind and kind >= 3 and sub(resolution, 10, 42) == sub(value, at, at + 32) then return kind + 2 end
  return 3
end

local AGE = { [0] = 'u', [1] = 'u', [2] = 'u', [3] = 'u', [4] = 'r', [6] = 'r', [7] = 'r', [8] = 's' }

-- The members that an entry has in the index: by id, by age, by first failure, by cause.
local function members_of(id, value, resolution)
  local at = rank_at(value)
  local status = status_of(value, at, resolution)
  local letter = char(status)
  local members = { 'i' .. letter .. id }
  local age = AGE[status]
  if age then
    -- What may be superseded says its era, so that a purge need not read it.
    local era = age == 'u' and sub(value, at, at + 7) or ''
    members[2] = 'a' .. age .. sub(value, at + 34, at + 41) .. id .. era
  end
  local first = first_of(value)
  if first then
    members[#members + 1] = 'n' .. letter .. first .. id
    if byte(value, at + 33) == 1 then
      local print = sub(value, -23, -16)
      members[#members + 1] = 'g' .. letter .. print .. first .. id
      members[#members + 1] = 'h' .. letter .. print .. id
    end
  end
  return members
end

-- The rows of distinct ids: for each its value and its resolution, false where there is none; and the values of those that
-- are not whole, which are then none.
local function load(ids)
  local values = many(ENTRIES, ids)
  local resolutions, resolved, damaged = {}, {}, {}
  for i = 1, #ids do
    resolutions[i] = false
    if values[i] and not is_whole(values[i]) then
      damaged[i], values[i] = values[i], false
    elseif values[i] and has(byte(values[i], 1), 2) then
      resolved[#resolved + 1] = i
    end
  end
  if #resolved > 0 then
    local asked = {}
    for i, place in ipairs(resolved) do asked[i] = ids[place] end
    for i, row in ipairs(many(RESOLUTIONS, asked)) do
      local place = resolved[i]
      if row and (#row == 8 or #row >= 46) then
        resolutions[place] = row
      else
        damaged[place], values[place] = values[place], false
      end
    end
  end
  return values, resolutions, damaged
end

local function difference(add, drop, old, new)
  local kept = {}
  for _, member in ipairs(new) do kept[member] = true end
  for _, member in ipairs(old) do
    if kept[member] then kept[member] = nil else drop[#drop + 1] = member end
  end
  for _, member in ipairs(new) do
    if kept[member] then
      add[#add + 1] = '0'
      add[#add + 1] = member
    end
  end
end
