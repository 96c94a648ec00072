package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Kinds of problems of uploads.
const (
	TypeUnknownUpload    ProblemType = "unknown-upload"    // 404, never heard of, ended or expired
	TypeUploadConflict   ProblemType = "upload-conflict"   // 409, the offset is another ("offset"), or another connection took over
	TypeUploadIncomplete ProblemType = "upload-incomplete" // 409, no receipt yet: bytes are missing from "offset" on
	TypeUnsupportedTus   ProblemType = "unsupported-tus"   // 412, the request speaks no version of tus that the peer speaks
)

// Upload is how far a body has come that outlives its connections.
type Upload struct {
	Name     string // 32 hex digits
	Offset   int64  // bytes that were taken
	Length   int64  // bytes of the whole
	Expires  time.Time
	Metadata string // as the client gave it
}

// Whole reports whether all bytes were taken.
func (u Upload) Whole() bool { return u.Offset == u.Length }

// UploadBody is what one request brings of an upload.
type UploadBody interface {
	io.Reader
	// Interrupt makes a Read that is under way, and all that follow, fail soon. It may be called at any time.
	Interrupt()
}

// Uploads takes updates over several connections, one after the other. All methods are called from many goroutines at once.
// What is told of an upload whose bytes are all there is told once they are held as Push promises; the error that the update ended
// with is returned instead, by every method, for as long as the upload is remembered.
type Uploads interface {
	// Create begins an upload of req.Length bytes, whose ID or Base is given. It returns what Push would have refused before the first byte.
	Create(ctx context.Context, req PushRequest, metadata string) (Upload, error)
	// Upload tells how far one has come. A connection that brings more of it is cut off, when what it has brought already is taken.
	Upload(ctx context.Context, name string) (Upload, error)
	// Write takes what body brings from offset on, which must be where the upload stands, until the body ends or fails, which is no
	// error. A connection that brings more of it is cut off. Length is of the body, -1 when unknown.
	Write(ctx context.Context, name string, offset int64, body UploadBody, length int64) (Upload, error)
	// Receipt returns the receipt of an upload that is whole.
	Receipt(ctx context.Context, name string) (Receipt, error)
	// End forgets an upload and lets go what it holds. What is whole is not undone.
	End(name string) error
}

// Uploader is a Backend that takes uploads. The server answers requests for uploads with 404 when its backend is none.
type Uploader interface {
	Uploads() Uploads
}

// UnknownUpload is answered with 404.
func UnknownUpload(name string) *Problem {
	return NewProblem(TypeUnknownUpload, http.StatusNotFound, "Unknown upload",
		fmt.Sprintf("this peer has no upload %q: it never had, or it was ended, or nothing came for too long", clip(name)))
}

// UploadConflict is answered with 409. Offset is where the upload stands.
func UploadConflict(reason string, offset int64) *Problem {
	return NewProblem(TypeUploadConflict, http.StatusConflict, "Not where the upload stands", reason).With("offset", offset)
}

// UploadIncomplete is answered with 409.
func UploadIncomplete(u Upload) *Problem {
	return NewProblem(TypeUploadIncomplete, http.StatusConflict, "Incomplete upload",
		fmt.Sprintf("%d of %d bytes are here; there is a receipt when all are", u.Offset, u.Length)).With("offset", u.Offset).With("length", u.Length)
}
