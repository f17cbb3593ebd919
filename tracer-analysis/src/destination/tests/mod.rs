mod fold;
mod histogram;
mod timeline;
