package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Resumable uploads are spoken of in tus 1.0.0, https://tus.io/protocols/resumable-upload.
const (
	tusVersion    = "1.0.0"
	tusExtensions = "creation,creation-with-upload,expiration,termination"
	mediaOffset   = "application/offset+octet-stream"

	headerTus      = "Tus-Resumable"
	headerOffset   = "Upload-Offset"
	headerLength   = "Upload-Length"
	headerExpires  = "Upload-Expires"
	headerMetadata = "Upload-Metadata"
	headerOverride = "X-Http-Method-Override"

	maxMetadata = 4096
)

func (s *Server) uploadRoutes() []route {
	const updates, upload = "/v1/sessions/{session}/updates/{combiner}", "/v1/uploads/{upload}"
	return []route{
		{http.MethodOptions, updates, s.describeTus},
		{http.MethodPost, updates, s.tus(s.createUpload)},
		{http.MethodOptions, upload, s.describeTus},
		{http.MethodGet, upload, s.getUpload},
		{http.MethodHead, upload, s.tus(s.headUpload)},
		{http.MethodPatch, upload, s.tus(s.patchUpload)},
		{http.MethodDelete, upload, s.tus(s.deleteUpload)},
		{http.MethodPost, upload, s.tus(s.overrideUpload)},
	}
}

// describeTus says what of tus the server speaks.
func (s *Server) describeTus(w *response, _ *http.Request) error {
	h := w.Header()
	h.Set(headerTus, tusVersion)
	h.Set("Tus-Version", tusVersion)
	h.Set("Tus-Extension", tusExtensions)
	h.Set("Tus-Max-Size", strconv.FormatInt(s.opts.MaxBody, 10))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// tus lets a request through that speaks the right version.
func (s *Server) tus(next handler) handler {
	return func(w *response, r *http.Request) error {
		w.Header().Set(headerTus, tusVersion)
		if v := r.Header.Get(headerTus); v != tusVersion {
			w.Header().Set("Tus-Version", tusVersion)
			return NewProblem(TypeUnsupportedTus, http.StatusPreconditionFailed, "Unsupported version of tus",
				fmt.Sprintf("resumable uploads are made with the header %s: %s, not %+q", headerTus, tusVersion, clip(v)))
		}
		w.Header().Set("Cache-Control", "no-store")
		return s.ready(next)(w, r)
	}
}

// uploads is the backend's part.
func (s *Server) uploads() (Uploads, error) {
	if u, ok := s.backend.(Uploader); ok {
		return u.Uploads(), nil
	}
	return nil, NewProblem(TypeUnknownRoute, http.StatusNotFound, "Unknown route", "this peer takes no resumable uploads; PUT the update")
}

// uploadOf is the backend's part and the name of the upload that a request is about.
func (s *Server) uploadOf(r *http.Request) (Uploads, string, error) {
	if _, err := query(r); err != nil {
		return nil, "", err
	}
	u, err := s.uploads()
	if err != nil {
		return nil, "", err
	}
	name, err := pathName(r, "upload")
	return u, name, err
}

func (s *Server) createUpload(w *response, r *http.Request) error {
	uploads, err := s.uploads()
	if err != nil {
		return err
	}
	req, err := pushRequest(r)
	if err != nil {
		return err
	}
	if req.Length, err = s.announced(r); err != nil {
		return err
	}
	if req.ID == "" && req.Base == "" {
		return InvalidRequest("id", errors.New("an upload needs an id or a base: without, its name would be known only at its end, and when it is begun anew it would count twice"))
	}
	metadata := r.Header.Get(headerMetadata)
	if len(metadata) > maxMetadata {
		return InvalidRequest(headerMetadata, fmt.Errorf("%d bytes; at most %d, and none are needed: what is said of an update is in the query", len(metadata), maxMetadata))
	}
	begun := w.body != nil
	if begun {
		bound(r)
		if err := checkPiece(r); err != nil {
			return err
		}
	}
	req.Body = nil
	u, err := uploads.Create(r.Context(), req, metadata)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/uploads/"+u.Name)
	if begun {
		// The upload lives on whatever becomes of its first piece, except when it is refused for that.
		if u, err = uploads.Write(r.Context(), u.Name, 0, w.body, r.ContentLength); err != nil {
			return err
		}
		w.Header().Set(headerOffset, strconv.FormatInt(u.Offset, 10))
	}
	expire(w, u)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// announced reads how long an upload will be.
func (s *Server) announced(r *http.Request) (int64, error) {
	if r.Header.Get("Upload-Defer-Length") != "" {
		return 0, InvalidRequest("Upload-Defer-Length", errors.New("the length must be known when an upload is begun"))
	}
	n, err := parseOffset(r, headerLength)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, UnreadableModel(errors.New("an upload of 0 bytes is no model"))
	case n > s.opts.MaxBody:
		return 0, TooLarge(s.opts.MaxBody)
	}
	return n, nil
}

// parseOffset reads a header that holds a number of bytes.
func parseOffset(r *http.Request, header string) (int64, error) {
	v := r.Header.Get(header)
	if v == "" {
		return 0, InvalidRequest(header, fmt.Errorf("the header %s is missing: it holds a number of bytes", header))
	}
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil {
		return 0, InvalidRequest(header, fmt.Errorf("%s is %+q, not a number of bytes", header, clip(v)))
	}
	return int64(n), nil
}

// checkPiece refuses a body that cannot be a piece of an upload before a byte of it is read.
func checkPiece(r *http.Request) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != mediaOffset {
		return NewProblem(TypeUnsupportedMedia, http.StatusUnsupportedMediaType, "Unsupported media type",
			fmt.Sprintf("a piece of an upload is sent as %s, not %+q", mediaOffset, clip(r.Header.Get("Content-Type"))))
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return NewProblem(TypeUnsupportedMedia, http.StatusUnsupportedMediaType, "Unsupported media type",
			fmt.Sprintf("content encoding %+q; send the model as it is", clip(enc)))
	}
	return nil
}

// expire tells until when an upload can be gone on with.
func expire(w *response, u Upload) {
	w.Header().Set(headerExpires, u.Expires.UTC().Format(http.TimeFormat))
}

func (s *Server) headUpload(w *response, r *http.Request) error {
	uploads, name, err := s.uploadOf(r)
	if err != nil {
		return err
	}
	u, err := uploads.Upload(r.Context(), name)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set(headerOffset, strconv.FormatInt(u.Offset, 10))
	h.Set(headerLength, strconv.FormatInt(u.Length, 10))
	if u.Metadata != "" {
		h.Set(headerMetadata, u.Metadata)
	}
	expire(w, u)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) patchUpload(w *response, r *http.Request) error {
	uploads, name, err := s.uploadOf(r)
	if err != nil {
		return err
	}
	if err := checkPiece(r); err != nil {
		return err
	}
	offset, err := parseOffset(r, headerOffset)
	if err != nil {
		return err
	}
	bound(r)
	var body UploadBody = empty{}
	if w.body != nil {
		body = w.body
	}
	u, err := uploads.Write(r.Context(), name, offset, body, r.ContentLength)
	if err != nil {
		if p, ok := errors.AsType[*Problem](err); ok && TypeUploadConflict.Is(p) {
			w.Header().Set(headerOffset, fmt.Sprint(p.Extra["offset"]))
		}
		return err
	}
	w.Header().Set(headerOffset, strconv.FormatInt(u.Offset, 10))
	if p := w.bodyProblem(); p != nil && !u.Whole() {
		return p
	}
	expire(w, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getUpload gives the receipt. It is not of tus, so it takes requests without its header.
func (s *Server) getUpload(w *response, r *http.Request) error {
	uploads, name, err := s.uploadOf(r)
	if err != nil {
		return err
	}
	receipt, err := uploads.Receipt(r.Context(), name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, receipt)
}

func (s *Server) deleteUpload(w *response, r *http.Request) error {
	uploads, name, err := s.uploadOf(r)
	if err != nil {
		return err
	}
	if err := uploads.End(name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// overrideUpload is for clients that can do no more than POST.
func (s *Server) overrideUpload(w *response, r *http.Request) error {
	switch method := strings.ToUpper(r.Header.Get(headerOverride)); method {
	case http.MethodPatch:
		return s.patchUpload(w, r)
	case http.MethodDelete:
		return s.deleteUpload(w, r)
	case http.MethodHead:
		return s.headUpload(w, r)
	default:
		w.Header().Set("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH")
		return NewProblem(TypeMethodNotAllowed, http.StatusMethodNotAllowed, "Method not allowed",
			fmt.Sprintf("POST here stands for PATCH, HEAD or DELETE in X-HTTP-Method-Override, not %+q", clip(method)))
	}
}

// empty is the body of a request without one.
type empty struct{}

// Interrupt does nothing.
func (empty) Interrupt() {}

// Read is at the end.
func (empty) Read([]byte) (int, error) { return 0, io.EOF }
