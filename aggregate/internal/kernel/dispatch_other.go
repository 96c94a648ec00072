//go:build !amd64 || purego

package kernel

func vectorFoldF32(_, _ []uint64, _ []byte, _, _, _ uint64) int { return 0 }

func vectorFoldBF16(_, _ []uint64, _ []byte, _, _, _ uint64) int { return 0 }

func vectorFoldF16(_, _ []uint64, _ []byte, _, _, _ uint64) int { return 0 }

func vectorMerge(_, _, _, _ []uint64) int { return 0 }

func vectorBounds(_, _ []uint64) (bounds, int) { return bounds{}, 0 }

func vectorLargest(_ []byte, _ int) (uint64, int) { return 0, 0 }

func vectorFinalF32(_ []byte, _, _ []uint64, _ Divisor, _ int, _ uint32, _ func(int)) int { return 0 }

func vectorFinalBF16(_ []byte, _, _ []uint64, _ Divisor, _ int, _ uint16, _ func(int)) int { return 0 }

func vectorPack(_ []byte, _, _ []uint64, _ Packing) int { return 0 }

func vectorMergePacked(_, _ []uint64, _ []byte, _ Packing) (bounds, int) { return bounds{}, 0 }
