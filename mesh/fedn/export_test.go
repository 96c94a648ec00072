package fedn

import "time"

// Hasty shortens the waiting of a gateway's own: for the first contact, until it tries again what is on disk, until it says that it waits, and
// until it says a thing that it has said. 0 leaves it.
func (c *Config) Hasty(short, retry, tell, again time.Duration) {
	c.short, c.retry, c.tell, c.again = short, retry, tell, again
}
