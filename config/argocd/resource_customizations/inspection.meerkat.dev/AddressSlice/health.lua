-- An AddressSlice is what it says as soon as it is there.
local peers = 0
for _ in ipairs(obj.peers or {}) do
  peers = peers + 1
end
return { status = "Healthy", message = "Pods: " .. peers }
