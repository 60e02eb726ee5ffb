-- Deletes the oldest entries of one kind, a bounded part of them; answers how many, and where to go on if there may be more.
-- ARGV: `s` (succeeded), `r` (resolved) or `u` (unfinished, of an older era), before when, how many at most, how many members
-- to look at, where to go on or nothing.
local kind, before, wanted, look = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local prefix = 'a' .. kind
local min = ARGV[5] ~= '' and ARGV[5] or '[' .. prefix
if kind ~= 'u' then look = math.min(look, wanted) end
local members = call('ZRANGE', INDEX, min, '(' .. prefix .. before, 'BYLEX', 'LIMIT', 0, look)

local eras, floors = {}, {}
if kind == 'u' then
  local held = call('HGETALL', PROGRESS)
  for i = 1, #held, 2 do
    if #held[i + 1] >= 56 then
      eras[held[i]], floors[held[i]] = sub(held[i + 1], 1, 8), sub(held[i + 1], 9, 16)
    end
  end
end

-- Whether an unfinished one counts as absent.
local function is_superseded(id, era)
  local partition = sub(id, 1, -9)
  if not eras[partition] or not less(era, eras[partition]) then return false end
  local value = call('HGET', ENTRIES, id)
  -- Below the floor an older era's failure that a commit passed is still a fact.
  if value and not is_whole(value) then return false end
  local fact = value and byte(value, rank_at(value) + 32) == 2 and less(sub(id, -8), floors[partition])
  return not fact
end

local chosen, seen, last = {}, {}, nil
for _, member in ipairs(members) do
  if #chosen == wanted then break end
  last = member
  local id = kind == 'u' and sub(member, 11, -9) or sub(member, 11)
  if kind ~= 'u' or is_superseded(id, sub(member, -8)) then
    chosen[#chosen + 1] = id
    seen[#seen + 1] = member
  end
end

local values, resolutions, damaged = load(chosen)
local drop, taken, gone = {}, {}, 0
for i, id in ipairs(chosen) do
  if values[i] then
    for _, member in ipairs(members_of(id, values[i], resolutions[i])) do drop[#drop + 1] = member end
    taken[#taken + 1] = id
    gone = gone + 1
  elseif not damaged[i] then
    drop[#drop + 1] = seen[i]
    taken[#taken + 1] = id
  end
end
chunked('HDEL', ENTRIES, taken)
chunked('HDEL', CAPTURED, taken)
chunked('HDEL', RESOLUTIONS, taken)
chunked('ZREM', INDEX, drop)
local more = last and (last ~= members[#members] or #members == look)
return { gone, more and '(' .. last or false }
