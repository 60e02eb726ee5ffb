-- Makes the namespace, or says whose it is: format, name and cluster as they were held before.
-- ARGV: this format, the namespace's name, the Kafka cluster's id or nothing.
local FORMAT = KEYS[1]
local held = redis.call('HMGET', FORMAT, 'format', 'name', 'cluster')
if not held[1] then
  redis.call('HSET', FORMAT, 'format', ARGV[1], 'name', ARGV[2])
elseif (held[1] ~= ARGV[1] and held[1] ~= '1') or held[2] ~= ARGV[2] then
  return held
elseif held[1] ~= ARGV[1] then
  redis.call('HSET', FORMAT, 'format', ARGV[1])
end
if not held[3] and ARGV[3] ~= '' then redis.call('HSET', FORMAT, 'cluster', ARGV[3]) end
return held
