package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	device = "mesh0" // the name of the interface, in each namespace
	mtu    = 1500
)

// Host is a network namespace.
type Host struct {
	name string
	ip   [4]byte
	ns   *os.File // the namespace itself, for threads that enter it
	tun  *os.File // its packets

	// work is done by the one thread that lives in the namespace. Children are
	// started there, since they are to die with the thread that made them.
	work chan func()
	quit chan struct{} // closed to end the thread
	done chan struct{} // closed when it has ended
	stop sync.Once
}

// newHost makes the namespace and its thread.
func newHost(name string, ip [4]byte) (*Host, error) {
	h := &Host{name: name, ip: ip, work: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	made := make(chan error)
	go h.live(made)
	if err := <-made; err != nil {
		return nil, errors.Join(fmt.Errorf("netns: host %s: %w", name, err), h.close())
	}
	return h, nil
}

// live is the thread of the namespace. It is never given back to other
// goroutines: the runtime ends it with this one.
func (h *Host) live(made chan<- error) {
	defer close(h.done)
	runtime.LockOSThread()
	made <- h.enter()
	for {
		select {
		case f := <-h.work:
			f()
		case <-h.quit:
			return
		}
	}
}

// enter makes the namespace, puts the thread into it and brings its interfaces up.
func (h *Host) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	h.ns = ns
	if h.tun, err = openTUN(); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	return errors.Join(up(s, "lo", nil), up(s, device, &h.ip), unix.Close(s))
}

// openTUN makes the interface in the namespace of the calling thread.
func openTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(device)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a TUN device: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// up gives an interface its address, when it is to have one, in a network of 256, and starts it.
func up(socket int, name string, ip *[4]byte) error {
	set := func(what uint, value func(*unix.Ifreq) error) error {
		req, err := unix.NewIfreq(name)
		if err == nil {
			err = value(req)
		}
		if err == nil {
			err = unix.IoctlIfreq(socket, what, req)
		}
		if err != nil {
			return fmt.Errorf("set up %s (request %#x): %w", name, what, err)
		}
		return nil
	}
	var errs []error
	if ip != nil {
		errs = append(
			errs,
			set(unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(ip[:]) }),
			set(unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }),
			set(unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }),
		)
	}
	errs = append(errs, set(unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }))
	return errors.Join(errs...)
}

// Name is the name that the host was made with.
func (h *Host) Name() string { return h.name }

// IP is the host's address, which all hosts of its network can reach.
func (h *Host) IP() string { return net.IP(h.ip[:]).String() }

// Start starts a process in the namespace, as cmd.Start does. It is killed when
// the network is closed or this process ends. Waiting for it is the caller's part.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	err := errors.New("netns: the network is closed")
	started := make(chan struct{})
	select {
	case h.work <- func() { err = cmd.Start(); close(started) }:
		<-started
	case <-h.done:
	}
	return err
}

// DialContext connects from the host to an address given by number.
func (h *Host) DialContext(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		// The thread ends with the goroutine, since it is not unlocked.
		runtime.LockOSThread()
		if err = unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("netns: enter %s: %w", h.name, err)
			return
		}
		// The socket is made by this thread and stays in the namespace.
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
	}()
	<-finished
	return conn, err
}

// close ends the thread and with it the processes, and gives the namespace up.
func (h *Host) close() error {
	var errs []error
	h.stop.Do(func() {
		close(h.quit)
		<-h.done
		for _, f := range []*os.File{h.tun, h.ns} {
			if f != nil {
				errs = append(errs, f.Close())
			}
		}
	})
	return errors.Join(errs...)
}
