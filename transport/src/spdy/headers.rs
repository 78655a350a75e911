//! Header blocks: name-value pairs, compressed with one zlib stream per direction of a session.

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;
use super::dictionary::dictionary;

/// Name-value pairs in the order they were sent; names are lower case on the wire.
pub type Headers = Vec<(String, String)>;

/// Largest block after decompression; a stream's headers are a few hundred bytes.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
const CHUNK_BYTES: usize = 4 * 1024;

/// Returns the first value of a header, whatever its case.
#[must_use]
pub fn get<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Compresses the header blocks of one direction, in the order they are sent.
pub struct HeaderEncoder(Compress);

impl Default for HeaderEncoder {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&dictionary()).expect("a fresh zlib stream takes a dictionary");
        Self(compress)
    }
}

impl HeaderEncoder {
    /// Returns the compressed block.
    ///
    /// # Errors
    /// When the pairs are larger than a block may be.
    pub fn encode(&mut self, headers: &Headers) -> Result<Vec<u8>, SpdyError> {
        let plain = plain_block(headers)?;
        let mut block = Vec::with_capacity(CHUNK_BYTES);
        let start = self.0.total_in();
        loop {
            let done =
                usize::try_from(self.0.total_in() - start).map_err(|_| SpdyError::Headers("too large"))?;
            block.reserve(CHUNK_BYTES);
            let room = block.capacity() - block.len();
            let produced = self.0.total_out();
            self.0
                .compress_vec(plain.get(done..).unwrap_or_default(), &mut block, FlushCompress::Sync)
                .map_err(|_| SpdyError::Headers("compression failed"))?;
            let produced = self.0.total_out() - produced;
            // A sync flush is complete when it left room in the output.
            if produced < u64::try_from(room).unwrap_or(u64::MAX) {
                return Ok(block);
            }
        }
    }
}

fn plain_block(headers: &Headers) -> Result<Vec<u8>, SpdyError> {
    let too_large = |_| SpdyError::Headers("too large");
    let mut plain = Vec::new();
    plain.put_u32(u32::try_from(headers.len()).map_err(too_large)?);
    for (name, value) in headers {
        plain.put_u32(u32::try_from(name.len()).map_err(too_large)?);
        plain.extend_from_slice(name.to_ascii_lowercase().as_bytes());
        plain.put_u32(u32::try_from(value.len()).map_err(too_large)?);
        plain.extend_from_slice(value.as_bytes());
    }
    if plain.len() > BLOCK_BYTES_MAX { Err(SpdyError::Headers("too large")) } else { Ok(plain) }
}

/// Decompresses the header blocks of one direction, in the order they arrive.
pub struct HeaderDecoder(Decompress);

impl Default for HeaderDecoder {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl HeaderDecoder {
    /// Returns the pairs of a compressed block.
    ///
    /// # Errors
    /// A block that is no zlib data, too large or cut short; the session cannot go on after it.
    pub fn decode(&mut self, mut block: &[u8]) -> Result<Headers, SpdyError> {
        let mut plain = Vec::with_capacity(CHUNK_BYTES);
        loop {
            plain.reserve(CHUNK_BYTES);
            let (consumed, produced) = (self.0.total_in(), self.0.total_out());
            let step = self.0.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - consumed).unwrap_or(usize::MAX);
            block = block.get(taken..).unwrap_or_default();
            match step {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|_| SpdyError::Headers("wrong dictionary"))?;
                }
                Err(_) => return Err(SpdyError::Headers("no zlib data")),
                Ok(Status::StreamEnd) => return Err(SpdyError::Headers("compression ended")),
                Ok(Status::Ok | Status::BufError) => {
                    if plain.len() > BLOCK_BYTES_MAX {
                        return Err(SpdyError::Headers("too large"));
                    }
                    if block.is_empty() && self.0.total_out() == produced {
                        return parse(&plain);
                    }
                    if taken == 0 && self.0.total_out() == produced {
                        return Err(SpdyError::Headers("no progress"));
                    }
                }
            }
        }
    }
}

fn parse(plain: &[u8]) -> Result<Headers, SpdyError> {
    let mut rest = BytesMut::from(plain);
    let count = number(&mut rest)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = text(&mut rest)?;
        let value = text(&mut rest)?;
        // Several values of one name are separated by NUL; the first is what all peers mean.
        let value = value.split('\0').next().unwrap_or_default().to_owned();
        headers.push((name, value));
    }
    Ok(headers)
}

fn number(rest: &mut BytesMut) -> Result<usize, SpdyError> {
    if rest.len() < 4 {
        return Err(SpdyError::Headers("cut short"));
    }
    usize::try_from(rest.get_u32()).map_err(|_| SpdyError::Headers("too large"))
}

fn text(rest: &mut BytesMut) -> Result<String, SpdyError> {
    let length = number(rest)?;
    if rest.len() < length {
        return Err(SpdyError::Headers("cut short"));
    }
    String::from_utf8(rest.split_to(length).to_vec()).map_err(|_| SpdyError::Headers("no UTF-8"))
}
