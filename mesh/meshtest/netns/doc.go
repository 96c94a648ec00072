// Package netns gives tests a network of their own: hosts that are network
// namespaces of the Linux kernel, each with its own TCP and UDP, addresses and
// routes, and links between them that the test cuts, delays and makes lose
// packets, each direction by itself.
//
//	net, err := netns.New(netns.Options{Hosts: []string{"a", "b", "client"}, Seed: seed})
//	defer net.Close()
//	err = net.Host("a").Start(exec.Command(binary, "node", ...)) // a child process in there
//	conn, err := net.Host("client").DialContext(ctx, "tcp", net.Host("a").IP()+":8080")
//	net.Set([]string{"a"}, []string{"b"}, netns.Link{Cut: true}) // b no longer hears a
//	net.Heal()
//
// Every host has one interface, a TUN device. What the kernel sends through it
// comes to this process, whose switch looks at the link it is to take and hands
// it to the other host's kernel, or does not. So nothing is needed but root and
// /dev/net/tun: neither a bridge nor the kernel's netem, which many kernels
// lack, nor a packet filter. Which packets are lost is drawn from the seed, one
// sequence for each direction of each link; which packet is the n-th is up to
// the kernel.
//
// Nothing has a name outside the process: namespaces and devices belong to
// threads and descriptors of it and are gone when it is, however it ends. The
// processes started on a host die with it.
//
// Networks may be used from several goroutines. The package is for Linux; the
// scenarios with real peers are tests behind the build tag netns, which `make
// test-net` runs.
package netns
