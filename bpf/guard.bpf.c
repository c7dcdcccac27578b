// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The guard of a TAP whose frames carry a virtio header: judges what the
 * guest wrote there, before every other hook (clsact's ingress).
 *
 * The kernel believes such a header. Where it asks for a checksum, 16 bits are
 * written at csum_start + csum_offset when the frame leaves the host, after
 * the whole firewall: a port, an address, anything. Where it asks for
 * segments, the frame is cut by what the header says it is.
 *
 * So a frame that asks for neither passes. One that does passes only
 *  - if the place is the checksum field of the TCP or UDP header that this
 *    program finds by itself, in a whole IP packet without a VLAN tag;
 *  - and if it is to be cut as what it is, into segments that the guest could
 *    have sent through this port one by one.
 * Whatever passes bears a mark. The firewall drops the frames of such a port
 * that have none: where this program is missing, nothing passes.
 *
 * The license lets the kernel's own memory be read (bpf_probe_read_kernel);
 * the rest of hostctl isn't under it. `make guard` compiles it; it includes
 * nothing, so that one compiler always makes the same of it.
 * Runs on Linux 5.8 and later, little-endian processors of 64 bits.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SECTION(name) __attribute__((section(name), used))
#define always_inline inline __attribute__((always_inline))
#define network(x) ((u16)__builtin_bswap16(x))

/* The bit that hostctl's rules ask for: `GUARDED` in src/ownership.rs. */
#define GUARDED 0x04000000

/* linux/bpf.h: what the kernel gives, as far as gso_size. */
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol;
	u32 vlan_present, vlan_tci, vlan_proto;
	u32 priority, ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid;
	u32 data, data_end;
	u32 napi_id, family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4];
	u32 remote_port, local_port, data_meta;
	u64 flow_keys, tstamp;
	u32 wire_len, gso_segs;
	u64 sk;
	u32 gso_size;
};
_Static_assert(__builtin_offsetof(struct __sk_buff, gso_size) == 176, "as in linux/bpf.h");

/* linux/skbuff.h, linux/netdevice.h: only what is read. Where it lies is put
 * in by the loader, from the running kernel's BTF. */
#define RELOCATED __attribute__((preserve_access_index))
struct net_device {
	u32 mtu;
} RELOCATED;
struct sk_buff {
	struct net_device *dev;
	u8 *head, *data;
	u32 end;
	u8 ip_summed : 2, encapsulation : 1;
	u32 csum;	/* or csum_start, and csum_offset in the upper 16 bits */
} RELOCATED;
struct skb_shared_info {
	u32 gso_type;
} RELOCATED;

enum { CHECKSUM_NONE = 0, CHECKSUM_PARTIAL = 3 };
enum {
	GSO_TCPV4 = 1 << 0,
	GSO_DODGY = 1 << 1,	/* whoever asks for it isn't trusted */
	GSO_TCP_ECN = 1 << 2,
	GSO_TCPV6 = 1 << 4,
	GSO_UDP_L4 = 1 << 17,
	GSO_TCP_ACCECN = 1 << 19,
};

static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;

/* A field of the kernel's; other than 0 where it isn't read, as under lockdown. */
#define READ(to, pointer, field) \
	probe_read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(pointer)->field))

/* The same of a field of some bits (clang's BPFCoreRelocationKind). */
enum { BYTE_OFFSET = 0, BYTE_SIZE = 1, LEFT = 4, RIGHT = 5 };
#define ABOUT(pointer, field, what) __builtin_preserve_field_info((pointer)->field, what)
#define READ_BITS(to, pointer, field) ({ \
	to = 0; \
	long failed = probe_read_kernel(&(to), ABOUT(pointer, field, BYTE_SIZE), \
					(void *)(pointer) + ABOUT(pointer, field, BYTE_OFFSET)); \
	to <<= ABOUT(pointer, field, LEFT); \
	to >>= ABOUT(pointer, field, RIGHT); \
	failed; \
})

enum { ETHERNET = 14, LEAST_FRAME = 60, ETHERNET_IP4 = 0x0800, ETHERNET_IP6 = 0x86dd, GROUP = 1 };
struct ethernet {
	u8 to[6], from[6];
	u16 type;
};
struct ip4 {
	u8 words : 4, version : 4, tos;
	u16 length, id, fragment;
	u8 ttl, protocol;
	u16 check;
	u32 from, to;
};
struct ip6 {
	u8 low : 4, version : 4, flow[3];
	u16 length;
	u8 next, hops, from[16], to[16];
};
struct ip6_extension {
	u8 next, more;	/* of 8 bytes */
};
struct tcp {
	u16 from, to;
	u32 sequence, acknowledged;
	u8 reserved : 4, words : 4, flags;
	u16 window, check, urgent;
};
struct udp {
	u16 from, to, length, check;
};

enum { HOP_BY_HOP = 0, TCP = 6, UDP = 17, ROUTING = 43, DESTINATION = 60 };
enum { SYN = 2, RST = 4 };
enum {
	ANY_BUT_DONT_FRAGMENT = 0xbfff,
	EXTENSIONS = 4,		/* that are followed */
	EXTENSIONS_LENGTH = 256,/* bytes of them all */
	LEAST_SEGMENT = 48,	/* as Linux' own smallest, net.ipv4.tcp_min_snd_mss */
};

static always_inline int is_honest(struct __sk_buff *frame)
{
	struct sk_buff *skb = (void *)frame;	/* what it really is */
	u32 gso_size = frame->gso_size;
	u64 bits;

	if (READ_BITS(bits, skb, ip_summed))
		return 0;
	if (bits != CHECKSUM_PARTIAL)	/* nothing is written into it, nor may it be cut */
		return bits == CHECKSUM_NONE && !gso_size;
	if (READ_BITS(bits, skb, encapsulation) || bits || frame->vlan_present)
		return 0;

	/* The place, from the frame's beginning. */
	u8 *head, *beginning;
	u32 place;
	if (READ(head, skb, head) || READ(beginning, skb, data) || READ(place, skb, csum))
		return 0;
	u32 start = (place & 0xffff) - (u32)(beginning - head), offset = place >> 16;

	u32 gso_type = 0;	/* the kernel looks at none without a size */
	if (gso_size) {
		u32 end;
		if (READ(end, skb, end) || READ(gso_type, (struct skb_shared_info *)(head + end), gso_type))
			return 0;
		if (!(gso_type &= ~GSO_DODGY))
			return 0;
	}

	/* The kernel made the frame one piece up to where it will write. Where
	 * the headers aren't within, the place is another. */
	void *data = (void *)(long)frame->data, *end = (void *)(long)frame->data_end;
	struct ethernet *ethernet = data;
	if ((void *)(ethernet + 1) > end)
		return 0;
	u32 room = frame->len - ETHERNET, length;	/* for the packet, and its own */
	u32 at;						/* its transport header, from the frame's beginning */
	u32 tcp_type;
	u8 protocol;
	if (ethernet->type == network(ETHERNET_IP4)) {
		struct ip4 *ip = (void *)(ethernet + 1);
		if ((void *)(ip + 1) > end || ip->version != 4 || ip->words < 5)
			return 0;
		if (ip->fragment & network(ANY_BUT_DONT_FRAGMENT))
			return 0;
		length = network(ip->length);
		at = ETHERNET + ip->words * 4;
		protocol = ip->protocol;
		tcp_type = GSO_TCPV4;
	} else if (ethernet->type == network(ETHERNET_IP6)) {
		struct ip6 *ip = (void *)(ethernet + 1);
		if ((void *)(ip + 1) > end || ip->version != 6)
			return 0;
		length = sizeof(*ip) + network(ip->length);
		at = ETHERNET + sizeof(*ip);
		protocol = ip->next;
		tcp_type = GSO_TCPV6;
		/* Those behind which the kernel itself finds a transport header;
		 * a fragment's isn't among them. */
		#pragma unroll
		for (int i = 0; i < EXTENSIONS; i++) {
			if (protocol != HOP_BY_HOP && protocol != ROUTING && protocol != DESTINATION)
				break;
			struct ip6_extension *extension = data + at;
			if ((void *)(extension + 1) > end)
				return 0;
			protocol = extension->next;
			at += (extension->more + 1) * 8;
			if (at > ETHERNET + sizeof(*ip) + EXTENSIONS_LENGTH)
				return 0;
		}
	} else {
		return 0;
	}
	if (start != at)
		return 0;
	/* Bytes behind a packet are summed up as part of it, and cut. Only what
	 * is shorter than Ethernet's frames may have some. */
	if (length > room || (length < room && (gso_type || frame->len > LEAST_FRAME)))
		return 0;
	at &= 0x1ff;	/* what it is anyway, for the verifier */

	u32 headers;	/* bytes, from the IP header's first */
	if (protocol == TCP) {
		struct tcp *tcp = data + at;
		if ((void *)&tcp->urgent > end)
			return 0;
		headers = at - ETHERNET + tcp->words * 4;
		if (offset != __builtin_offsetof(struct tcp, check) || tcp->words < 5 || headers > length)
			return 0;
		if (gso_type) {
			if ((gso_type & ~(GSO_TCP_ECN | GSO_TCP_ACCECN)) != tcp_type)
				return 0;
			if (tcp->flags & (SYN | RST))	/* each segment would bear them */
				return 0;
		}
	} else if (protocol == UDP) {
		struct udp *udp = data + at;
		if ((void *)(udp + 1) > end)
			return 0;
		headers = at - ETHERNET + sizeof(*udp);
		if (offset != __builtin_offsetof(struct udp, check) || headers > length)
			return 0;
		if (network(udp->length) != length - (headers - sizeof(*udp)))
			return 0;
		if (gso_type && gso_type != GSO_UDP_L4)
			return 0;
	} else {
		return 0;
	}

	if (gso_type) {
		struct net_device *device;
		u32 mtu;
		if (READ(device, skb, dev) || READ(mtu, device, mtu))
			return 0;
		if (gso_size < LEAST_SEGMENT || headers + gso_size > mtu)
			return 0;
		/* One frame is counted where each segment would go to everybody. */
		if (ethernet->to[0] & GROUP)
			return 0;
	}
	return 1;
}

enum { GO_ON = -1, DROP = 2 };	/* TC_ACT_UNSPEC, TC_ACT_SHOT */

SECTION("classifier") int hostctl_guard(struct __sk_buff *frame)
{
	if (!is_honest(frame))
		return DROP;
	frame->mark |= GUARDED;
	return GO_ON;
}

SECTION("license") char _license[] = "Dual MIT/GPL";
