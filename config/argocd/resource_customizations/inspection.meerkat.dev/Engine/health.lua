-- Healthy: every node that is meant inspects. Degraded: only a change by a person helps. Progressing: nodes start, are updated, fail
-- or are put back.
local hs = { status = "Progressing", message = "Waiting for Meerkat's manager to look at the Engine" }
if obj.status == nil then
  return hs
end
local is = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  is[condition.type] = condition
end
if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "Putting every Pod's network back"
  if is.Progressing ~= nil then
    hs.message = is.Progressing.message
  end
  return hs
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return hs
end
if is.Stalled ~= nil and is.Stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = is.Stalled.reason .. ": " .. is.Stalled.message
elseif is.Ready == nil then
  return hs
elseif is.Ready.status == "True" then
  hs.status = "Healthy"
  hs.message = is.Ready.message
else
  hs.message = is.Ready.reason .. ": " .. is.Ready.message
end
return hs
