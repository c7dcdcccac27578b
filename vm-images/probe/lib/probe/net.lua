-- Non-blocking sockets, poll and the ICMP error queue for LuaJIT, by FFI.
-- Constants are those of asm-generic, which x86_64 and aarch64 share.

local ffi = require "ffi"
local bit = require "bit"
local C = ffi.C

ffi.cdef [[
typedef unsigned int socklen_t;
struct net_in  { uint16_t family; uint16_t port; uint8_t addr[4]; uint8_t zero[8]; };
struct net_in6 { uint16_t family; uint16_t port; uint32_t flow; uint8_t addr[16]; uint32_t scope; };
union net_sa   { uint16_t family; struct net_in v4; struct net_in6 v6; };
struct net_ll  { uint16_t family; uint16_t protocol; int ifindex; uint16_t hatype;
                 uint8_t pkttype; uint8_t halen; uint8_t addr[8]; };
struct net_pollfd { int fd; short events; short revents; };
struct net_timespec { long sec; long nsec; };
struct net_iovec { void *base; size_t len; };
struct net_msghdr { void *name; socklen_t namelen; struct net_iovec *iov; size_t iovlen;
                    void *control; size_t controllen; int flags; };
struct net_cmsghdr { size_t len; int level; int type; };
/* sock_extended_err of linux/errqueue.h; the offender's address follows it. */
struct net_ee { uint32_t err; uint8_t origin; uint8_t type; uint8_t code; uint8_t pad;
                uint32_t info; uint32_t data; };
int socket(int, int, int);
int connect(int, const void *, socklen_t);
int bind(int, const void *, socklen_t);
int listen(int, int);
int accept4(int, void *, socklen_t *, int);
int shutdown(int, int);
int close(int);
int setsockopt(int, int, int, const void *, socklen_t);
int getsockopt(int, int, int, void *, socklen_t *);
int getsockname(int, void *, socklen_t *);
ssize_t sendto(int, const void *, size_t, int, const void *, socklen_t);
ssize_t recvfrom(int, void *, size_t, int, void *, socklen_t *);
ssize_t recvmsg(int, struct net_msghdr *, int);
int poll(struct net_pollfd *, unsigned long, int);
int clock_gettime(int, struct net_timespec *);
int inet_pton(int, const char *, void *);
const char *inet_ntop(int, const void *, char *, socklen_t);
unsigned int if_nametoindex(const char *);
char *strerror(int);
]]

local M = {
  AF_INET = 2, AF_INET6 = 10, AF_PACKET = 17,
  STREAM = 1, DGRAM = 2, RAW = 3,
  IPPROTO_ICMP = 1, IPPROTO_ICMPV6 = 58,
  POLLIN = 1, POLLOUT = 4, POLLERR = 8, POLLHUP = 16,
  EINTR = 4, EAGAIN = 11, EACCES = 13, EPIPE = 32, ENETUNREACH = 101,
  ECONNREFUSED = 111, EHOSTUNREACH = 113, EINPROGRESS = 115,
}

local NONBLOCK, CLOEXEC, NOSIGNAL, ERRQUEUE = 0x800, 0x80000, 0x4000, 0x2000
local SIZE = ffi.sizeof "union net_sa"

local function swap16(n)
  return bit.bor(bit.lshift(bit.band(n, 255), 8), bit.rshift(n, 8))
end
M.swap16 = swap16

function M.strerror(errno)
  return ffi.string(C.strerror(errno))
end

--- Seconds of the monotonic clock.
function M.now()
  local t = ffi.new "struct net_timespec"
  C.clock_gettime(1, t)
  return tonumber(t.sec) + tonumber(t.nsec) / 1e9
end

--- A socket address and its length, or nil if `text` is no IP address.
function M.address(text, port)
  local sa = ffi.new "union net_sa"
  if C.inet_pton(M.AF_INET, text, sa.v4.addr) == 1 then
    sa.v4.family, sa.v4.port = M.AF_INET, swap16(port)
    return sa, ffi.sizeof "struct net_in"
  elseif C.inet_pton(M.AF_INET6, text, sa.v6.addr) == 1 then
    sa.v6.family, sa.v6.port = M.AF_INET6, swap16(port)
    return sa, ffi.sizeof "struct net_in6"
  end
end

--- The text of a socket address; an IPv4-mapped IPv6 address as IPv4.
function M.text(sa)
  local buf = ffi.new "char[64]"
  if sa.family == M.AF_INET then
    return ffi.string(C.inet_ntop(M.AF_INET, sa.v4.addr, buf, 64))
  elseif sa.family == M.AF_INET6 then
    return (ffi.string(C.inet_ntop(M.AF_INET6, sa.v6.addr, buf, 64)):gsub("^::ffff:(%d+%.)", "%1"))
  end
  return "?"
end

--- A non-blocking socket: fd, or nil and errno.
function M.socket(family, kind, protocol)
  local fd = C.socket(family, bit.bor(kind, NONBLOCK, CLOEXEC), protocol or 0)
  if fd < 0 then return nil, ffi.errno() end
  return fd
end

function M.close(fd) C.close(fd) end

--- Nothing more will be written (the peer reads end of file).
function M.shutdown_write(fd) C.shutdown(fd, 1) end

function M.set_int(fd, level, option, value)
  return C.setsockopt(fd, level, option, ffi.new("int[1]", value), 4) == 0
end

--- Has the kernel keep ICMP errors for this socket (IP_RECVERR, IPV6_RECVERR).
function M.keep_errors(fd, family)
  if family == M.AF_INET then return M.set_int(fd, 0, 11, 1) end
  return M.set_int(fd, 41, 25, 1)
end

--- True, or nil and errno (EINPROGRESS while TCP connects).
function M.connect(fd, sa, len)
  if C.connect(fd, sa, len) == 0 then return true end
  return nil, ffi.errno()
end

--- A socket on a port of all addresses of both families, or nil and errno.
function M.bind_port(kind, port)
  local fd, err = M.socket(M.AF_INET6, kind)
  if not fd then return nil, err end
  M.set_int(fd, 1, 2, 1)   -- SO_REUSEADDR
  M.set_int(fd, 41, 26, 0) -- IPV6_V6ONLY off: IPv4 arrives here too
  local sa, len = M.address("::", port)
  if C.bind(fd, sa, len) ~= 0 or (kind == M.STREAM and C.listen(fd, 128) ~= 0) then
    err = ffi.errno()
    C.close(fd)
    return nil, err
  end
  return fd
end

--- fd and the peer's address, or nil.
function M.accept(fd)
  local sa, len = ffi.new "union net_sa", ffi.new("socklen_t[1]", SIZE)
  local new = C.accept4(fd, sa, len, bit.bor(NONBLOCK, CLOEXEC))
  if new >= 0 then return new, sa end
end

--- Bytes written, or nil and errno.
function M.send(fd, data, sa, len)
  local n = C.sendto(fd, data, #data, NOSIGNAL, sa, len or 0)
  if n < 0 then return nil, ffi.errno() end
  return tonumber(n)
end

local buffer = ffi.new "uint8_t[65536]"

--- The data ("" at end of stream) and the sender, or nil and errno.
function M.receive(fd, limit)
  local sa, len = ffi.new "union net_sa", ffi.new("socklen_t[1]", SIZE)
  local n = C.recvfrom(fd, buffer, math.min(limit or 65536, 65536), 0, sa, len)
  if n < 0 then return nil, ffi.errno() end
  return ffi.string(buffer, n), sa, len[0]
end

--- The socket's pending error (0: none).
function M.socket_error(fd)
  local value, len = ffi.new "int[1]", ffi.new("socklen_t[1]", 4)
  if C.getsockopt(fd, 1, 4, value, len) ~= 0 then return ffi.errno() end
  return value[0]
end

function M.own_address(fd)
  local sa, len = ffi.new "union net_sa", ffi.new("socklen_t[1]", SIZE)
  if C.getsockname(fd, sa, len) ~= 0 then return "?" end
  return M.text(sa)
end

--- Takes one error off the socket's queue: {origin, type, code, from}; nil if
--- there is none. Origin 1: this host itself, 2: ICMP, 3: ICMPv6.
function M.queued_error(fd)
  local control = ffi.new "uint8_t[512] __attribute__((aligned(8)))"
  local iov = ffi.new("struct net_iovec[1]")
  iov[0].base, iov[0].len = buffer, 65536
  local msg = ffi.new "struct net_msghdr[1]"
  msg[0].iov, msg[0].iovlen = iov, 1
  msg[0].control, msg[0].controllen = control, 512
  if C.recvmsg(fd, msg, ERRQUEUE) < 0 then return nil end
  local head, need = ffi.sizeof "struct net_cmsghdr", ffi.sizeof "struct net_ee"
  local left, at = tonumber(msg[0].controllen), 0
  while left - at >= head do
    local c = ffi.cast("struct net_cmsghdr *", control + at)
    local size = tonumber(c.len)
    if size < head or size > left - at then return nil end
    local is_error = (c.level == 0 and c.type == 11) or (c.level == 41 and c.type == 25)
    if is_error and size >= head + need then
      local ee = ffi.cast("struct net_ee *", control + at + head)
      local from = "?"
      if size >= head + need + ffi.sizeof "struct net_in" then
        from = M.text(ffi.cast("union net_sa *", control + at + head + need))
      end
      return { origin = ee.origin, type = ee.type, code = ee.code, from = from }
    end
    at = at + bit.band(size + 7, bit.bnot(7))
  end
end

--- Waits for events: `wanted` is a list of {fd, events}; returns a table from
--- fd to events. `seconds` nil: for ever.
function M.poll(wanted, seconds)
  local fds = ffi.new("struct net_pollfd[?]", math.max(#wanted, 1))
  for i, w in ipairs(wanted) do fds[i - 1].fd, fds[i - 1].events = w[1], w[2] end
  local ready = {}
  local ms = seconds and math.max(0, math.ceil(seconds * 1000)) or -1
  if C.poll(fds, #wanted, ms) > 0 then
    for i = 0, #wanted - 1 do
      if fds[i].revents ~= 0 then ready[fds[i].fd] = fds[i].revents end
    end
  end
  return ready
end

--- Sends one Ethernet frame as it is on an interface: true, or nil and a text.
function M.send_frame(interface, frame)
  local index = C.if_nametoindex(interface)
  if index == 0 then return nil, "no interface " .. interface end
  local fd, err = M.socket(M.AF_PACKET, M.RAW)
  if not fd then return nil, M.strerror(err) end
  local ll = ffi.new "struct net_ll"
  ll.family, ll.ifindex, ll.halen = M.AF_PACKET, index, 6
  ffi.copy(ll.addr, frame, 6)
  local n = C.sendto(fd, frame, #frame, 0, ll, ffi.sizeof(ll))
  err = ffi.errno()
  C.close(fd)
  if n < 0 then return nil, M.strerror(err) end
  return true
end

return M
