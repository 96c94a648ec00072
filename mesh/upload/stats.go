package upload

// Stats tells how many uploads are under way, which are those that are not whole, and how many bytes of them were taken.
func (s *Set) Stats() (uploads int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.all {
		if u.stageNow() == taking {
			uploads++
			bytes += u.status().Offset
		}
	}
	return uploads, bytes
}
